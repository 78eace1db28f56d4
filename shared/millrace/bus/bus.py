"""The bus over kombu: one body of code for RabbitMQ and the embedded transport."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog
from amqp.exceptions import NotFound
from kombu import Connection, Queue

from millrace.bus import DeadLetter, faults, links, messages, topology
from millrace.bus.consumer import BatchConsumer
from millrace.bus.publisher import Publisher
from millrace.bus.task_messages import encode_command
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import Event

log = structlog.get_logger(__name__)

T = TypeVar("T")


class OpenConnection(Protocol):
    def __call__(self, *, heartbeat: bool) -> Connection:
        """Return a connection that is not yet established."""


class BrokerBus:
    """Implements `millrace.bus.Bus`.

    Durable messages and signals have a connection each: a broker that is slow to confirm holds up no heartbeat.
    Publishing connections run without AMQP heartbeats, as nobody drains them between publishes; TCP keepalive and the
    confirm's time limit find the dead ones.
    """

    def __init__(self, url: str, open_connection: OpenConnection, *, publish_timeout_s: float) -> None:
        self._url = url
        self._open = open_connection
        self._publish_timeout_s = publish_timeout_s
        self._pid = os.getpid()
        self._publisher = Publisher(url, lambda: open_connection(heartbeat=False))
        self._signaller = Publisher(url, lambda: open_connection(heartbeat=False), confirms=False)

    def __repr__(self) -> str:
        return f"<Bus: {faults.describe(self._url)}>"

    def send(self, commands: Sequence[ExecuteAttempt], *, events: Sequence[Event] = ()) -> None:
        self._publish([*map(encode_command, commands), *map(messages.encode_event, events)])

    def publish(self, events: Sequence[Event]) -> None:
        self._publish([messages.encode_event(event) for event in events])

    def signal(self, key: str, payload: Mapping[str, Any]) -> None:
        assert os.getpid() == self._pid, "a bus is not used across a fork"
        self._signaller.try_publish(messages.encode_signal(key, payload))

    def declare(self, service: str, patterns: Sequence[str]) -> None:
        self._declare(topology.events_queue(service, patterns))

    def declare_commands(self, service: str, resource_class: str) -> None:
        self._declare(topology.commands_queue(service, resource_class))

    def subscribe(
        self,
        service: str,
        patterns: Sequence[str],
        on_batch: Callable[[Sequence[Event]], None],
        *,
        stop: threading.Event,
        max_batch: int = 64,
    ) -> None:
        self._consume(
            lambda: topology.events_queue(service, patterns),
            messages.decode_event,
            on_batch,
            stop=stop,
            max_batch=max_batch,
            gathers=max_batch > 1,
        )

    def subscribe_dead(
        self, on_letters: Callable[[Sequence[DeadLetter]], None], *, stop: threading.Event, max_batch: int = 64
    ) -> None:
        self._consume(topology.dead_queue, messages.decode_dead, on_letters, stop=stop, max_batch=max_batch)

    def listen(
        self, patterns: Sequence[str], on_signal: Callable[[str, dict[str, Any]], None], *, stop: threading.Event
    ) -> None:
        def on_batch(batch: Sequence[tuple[str, dict[str, Any]]]) -> None:
            for key, payload in batch:
                try:
                    on_signal(key, payload)
                except Exception:
                    log.exception("signal_failed", key=key)

        self._consume(
            lambda: topology.signals_queue(patterns), messages.decode_signal, on_batch, stop=stop, max_batch=0
        )

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        def look(channel: Any) -> list[DeadLetter]:
            queue = topology.dead_queue().bind(channel)
            queue.declare()
            found: list[DeadLetter] = []
            # Closing the channel puts them all back; until then none is seen twice.
            while len(found) < limit and (message := queue.get()) is not None:
                found.append(messages.decode_dead(message))
            return found

        return self._with_channel(look)

    def queue_depth(self, queue: str) -> int:
        def look(channel: Any) -> int:
            try:
                return int(channel.queue_declare(queue=queue, passive=True).message_count)
            except NotFound:
                return 0

        return self._with_channel(look)

    def check(self) -> None:
        self._with_channel(lambda _: None)

    def close(self) -> None:
        self._publisher.close()
        self._signaller.close()

    def _publish(self, outgoing: Sequence[messages.Outgoing]) -> None:
        assert os.getpid() == self._pid, "a bus is not used across a fork"
        self._publisher.publish(outgoing, timeout_s=self._publish_timeout_s)

    def _declare(self, queue: Queue) -> None:
        self._with_channel(lambda channel: topology.declare(queue, channel))

    def _consume(
        self, make_queue: Callable[[], Queue], decode: Callable[[Any], Any], on_batch: Callable[[Sequence[Any]], None], *,
        stop: threading.Event, max_batch: int, gathers: bool = False,
    ) -> None:  # fmt: skip
        BatchConsumer(
            self._url, lambda: self._open(heartbeat=True), make_queue=make_queue, decode=decode, on_batch=on_batch,
            max_batch=max_batch, stop=stop, gathers=gathers,
        ).run()  # fmt: skip

    def _with_channel(self, use: Callable[[Any], T]) -> T:
        """Use a channel of a connection of its own: a refused declaration closes the channel it came from."""
        connection, is_broken = self._open(heartbeat=False), False
        try:
            links.establish(connection)
            with connection.channel() as channel:
                return use(channel)
        except faults.DRIVER_ERRORS as error:
            is_broken = True
            raise faults.translate(error, self._url) from error
        finally:
            links.close(connection, is_broken=is_broken)
