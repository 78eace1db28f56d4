"""A channel of the embedded transport: AMQP's verbs, as kombu and Celery call them."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound
from amqp.protocol import queue_declare_ok_t
from kombu.message import Message
from kombu.transport.base import StdChannel

from millrace.bus.embedded import topology
from millrace.bus.embedded.broker import Broker
from millrace.bus.embedded.connection import Connection
from millrace.bus.embedded.deliveries import Delivery
from millrace.bus.embedded.publishing import PublishBatch
from millrace.contracts.base import canonical_json

_CHUNK = 64
"""Messages taken at once where the consumer sets no prefetch limit."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    queue: str
    tag: str
    forget: bool
    callback: Callable[[Any], None]


class Channel(StdChannel):  # type: ignore[misc]  # kombu ships no types
    """Consumes for one thread; acknowledgements and publishes may come from any."""

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.channel_id = len(connection.channels) + 1
        self.events: defaultdict[str, set[Callable[..., None]]] = defaultdict(set)
        self._mutex = threading.Lock()
        self._tags = itertools.count(1)
        self._prefetch = 0
        self._subscriptions: dict[str, _Subscription] = {}
        self._buffer: deque[tuple[_Subscription, Delivery]] = deque()
        self._unacknowledged: dict[int, Delivery] = {}
        self._turn = 0

    # --- topology -----------------------------------------------------------------------------------------------------

    def exchange_declare(self, exchange: str, type: str = "direct", durable: bool = False, **_: Any) -> None:
        self.broker.declare_exchange(exchange, type or "direct", durable=durable)

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        connection, name = self._open, queue or f"private.{uuid.uuid4().hex}"
        if not passive:
            owner = connection.owner.id if exclusive else ""
            declared = topology.Queue(name, owner, auto_delete, canonical_json(arguments or {}))
            connection.broker.declare_queue(declared, durable=durable)
        elif connection.broker.find_queue(name) is None:
            raise topology.not_found("Queue", name)
        return queue_declare_ok_t(name, connection.broker.size(name), connection.broker.num_consumers(name))

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        if exchange:  # every queue is bound to the default exchange by its name
            self.broker.bind(queue, exchange, routing_key)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        self.broker.unbind(queue, exchange, routing_key)

    def queue_delete(self, queue: str, **_: Any) -> None:
        self.broker.delete_queue(queue)

    def queue_purge(self, queue: str, **_: Any) -> int:
        return self.broker.purge(queue)

    # --- publishing ---------------------------------------------------------------------------------------------------

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        described = {"priority": priority, "content_type": content_type, "content_encoding": content_encoding}
        return {
            "body": body if isinstance(body, bytes) else str(body).encode(),
            "headers": headers or {},
            "properties": {**(properties or {}), **{k: v for k, v in described.items() if v is not None}},
        }

    def basic_publish(
        self, message: dict[str, Any], exchange: str = "", routing_key: str = "", mandatory: bool = False, **_: Any
    ) -> None:
        """Publish one message; it is durable when this returns. For many, see `create_publish_batch`."""
        batch = self.create_publish_batch()
        batch.publish(message, exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        batch.flush()

    def create_publish_batch(self, **_: Any) -> PublishBatch:
        """What `kombu.Producer.batch` collects messages in: one transaction for all, whatever their number."""
        return PublishBatch(self)

    # --- consuming ----------------------------------------------------------------------------------------------------

    def basic_qos(self, _size: int = 0, prefetch_count: int = 0, _global: bool = False) -> None:
        self._prefetch = prefetch_count
        self._open.wake()

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], None], consumer_tag: str = "", **_: Any
    ) -> str:
        connection, tag = self._open, consumer_tag or uuid.uuid4().hex
        connection.broker.add_consumer(queue, owner=connection.owner.id, tag=tag)
        with self._mutex:
            self._subscriptions[tag] = _Subscription(queue, tag, no_ack, callback)
        connection.wake()
        return tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        """Stop consuming. What was taken and not yet seen goes back, uncounted."""
        with self._mutex:
            subscription = self._subscriptions.pop(consumer_tag, None)
            unseen = [delivery for s, delivery in self._buffer if s is subscription]
            self._buffer = deque(entry for entry in self._buffer if entry[0] is not subscription)
        if subscription is None:
            return
        connection = self._open
        connection.broker.remove_consumer(subscription.queue, owner=connection.owner.id, tag=consumer_tag)
        if not subscription.forget:
            self._release(unseen, delivered=False)

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Message | None:
        connection = self._open
        found = connection.broker.claim(queue, owner=connection.owner.id, limit=1, forget=no_ack)
        return self._message(found[0], tag="", forget=no_ack) if found else None

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        connection = self._open
        for queue, ids in self._settle(delivery_tag, multiple=multiple).items():
            connection.broker.acknowledge(queue, ids, owner=connection.owner.id)
        connection.wake()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        connection = self._open
        for queue, ids in self._settle(delivery_tag, multiple=False).items():
            if requeue:
                connection.broker.release(queue, ids, owner=connection.owner.id)
            else:
                connection.broker.reject(queue, ids, owner=connection.owner.id)
        connection.wake()

    def basic_recover(self, **_: Any) -> None:
        """Give back all that was delivered and not acknowledged."""
        with self._mutex:
            taken, self._unacknowledged = list(self._unacknowledged.values()), {}
        self._release(taken, delivered=True)

    def message_to_python(self, raw_message: Message) -> Message:
        return raw_message

    def flow(self, active: bool = True) -> None:
        """Nothing to do: nobody pushes to a consumer here."""

    def close(self) -> None:
        """Give back what was delivered and not acknowledged, and leave the connection."""
        connection = self.connection
        if connection is None:
            return
        for tag in list(self._subscriptions):
            self.basic_cancel(tag)
        self.basic_recover()
        connection.channels.remove(self)
        self.connection = None

    # --- what the connection calls ------------------------------------------------------------------------------------

    def fetch(self) -> bool:
        """Take messages into the buffer, as many as the prefetch limit leaves room for; True if there were any."""
        with self._mutex:
            subscriptions = list(self._subscriptions.values())
            room = self._prefetch - len(self._unacknowledged) - len(self._buffer) if self._prefetch else _CHUNK
        self._turn += 1  # so that no queue starves those behind it
        num_taken = 0
        for position in range(len(subscriptions)):
            subscription = subscriptions[(position + self._turn) % len(subscriptions)]
            if room - num_taken <= 0:
                break
            found = self.broker.claim(
                subscription.queue, owner=self._open.owner.id, limit=room - num_taken, forget=subscription.forget
            )
            with self._mutex:
                self._buffer.extend((subscription, delivery) for delivery in found)
            num_taken += len(found)
        return num_taken > 0

    def deliver_buffered(self) -> bool:
        """Hand one message to its consumer; False if the buffer is empty."""
        with self._mutex:
            if not self._buffer:
                return False
            subscription, delivery = self._buffer.popleft()
        subscription.callback(self._message(delivery, tag=subscription.tag, forget=subscription.forget))
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def broker(self) -> Broker:
        return self._open.broker

    @property
    def _open(self) -> Connection:
        if self.connection is None:
            raise NotFound("the channel is closed", (20, 10), "Channel", 504)
        self.connection.require_open()
        return self.connection

    def _message(self, delivery: Delivery, *, tag: str, forget: bool) -> Message:
        number = next(self._tags)
        if not forget:
            with self._mutex:
                self._unacknowledged[number] = delivery
        properties, count = delivery.envelope["properties"], delivery.deliveries - 1
        return Message(
            body=delivery.body,
            channel=self,
            delivery_tag=number,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            properties=properties,
            # The name and meaning of RabbitMQ's quorum queues: deliveries before this one.
            headers={**delivery.envelope["headers"], **({"x-delivery-count": count} if count > 0 else {})},
            delivery_info={
                "consumer_tag": tag,
                "exchange": delivery.envelope["exchange"],
                "routing_key": delivery.envelope["routing_key"],
                "redelivered": count > 0,
            },
        )

    def _settle(self, delivery_tag: int, *, multiple: bool) -> dict[str, list[int]]:
        """Forget tags as unacknowledged; return their row ids by queue."""
        with self._mutex:
            tags = [t for t in self._unacknowledged if t <= delivery_tag] if multiple else [delivery_tag]
            settled = [self._unacknowledged.pop(t) for t in tags if t in self._unacknowledged]
        return _by_queue(settled)

    def _release(self, taken: list[Delivery], *, delivered: bool) -> None:
        connection = self._open
        for queue, ids in _by_queue(taken).items():
            connection.broker.release(queue, ids, owner=connection.owner.id, delivered=delivered)


def _by_queue(taken: list[Delivery]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for delivery in taken:
        grouped.setdefault(delivery.queue, []).append(delivery.id)
    return grouped
