"""Many messages in one transaction, by the hooks of `kombu.Producer.batch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from amqp.exceptions import NotFound

from millrace.bus.embedded.broker import Broker
from millrace.bus.embedded.deliveries import Outgoing


class PublishingChannel(Protocol):
    """A channel, as its batches see it."""

    @property
    def broker(self) -> Broker: ...

    @property
    def events(self) -> Mapping[str, set[Callable[..., None]]]:
        """Listeners by name, `basic_return` among them."""


class PublishBatch:
    """Messages on their way into one transaction."""

    def __init__(self, channel: PublishingChannel) -> None:
        self.channel = channel
        self._waiting: list[tuple[Outgoing, dict[str, Any], bool]] = []

    def publish(
        self, message: dict[str, Any], exchange: str = "", routing_key: str = "", mandatory: bool = False, **_: Any
    ) -> None:
        properties = message["properties"]
        outgoing = Outgoing(
            exchange, routing_key, properties, message["headers"], message["body"],
            persistent=properties.get("delivery_mode", 2) == 2,
        )  # fmt: skip
        self._waiting.append((outgoing, message, mandatory))

    def flush(self) -> None:
        """Commit. A mandatory message that reaches no queue goes to the channel's `basic_return` listeners."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        lost = {id(o) for o in self.channel.broker.publish([outgoing for outgoing, _, _ in waiting])}
        for outgoing, message, mandatory in waiting:
            if mandatory and id(outgoing) in lost:
                returned = NotFound("no queue is bound", (60, 50), "Basic.publish", 312)
                for callback in self.channel.events["basic_return"]:
                    callback(returned, outgoing.exchange, outgoing.routing_key, message)

    def discard(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        """Nothing is held beyond flush or discard."""
