"""How events and signals look on the wire, and back; commands are in `task_messages`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kombu import Exchange, Queue
from kombu.message import Message
from pydantic_core import from_json, to_json

from millrace.bus import DeadLetter, topology
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import Event

CONTENT_TYPE, ENCODING = "application/json", "utf-8"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish.

    Attributes:
        queue: The queue that must exist and take it; None: whoever is bound.
    """

    id: str
    exchange: Exchange
    routing_key: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str = ""
    queue: Queue | None = None

    @property
    def is_persistent(self) -> bool:
        return self.exchange is not topology.SIGNALS


def encode_event(event: Event) -> Outgoing:
    trace = {"traceparent": event.traceparent} if event.traceparent else {}
    return Outgoing(
        id=event.id,
        exchange=topology.EVENTS,
        routing_key=event.type,
        body=event.model_dump_json().encode(),
        headers=trace,
    )


def encode_signal(key: str, payload: Mapping[str, Any]) -> Outgoing:
    return Outgoing(id="", exchange=topology.SIGNALS, routing_key=key, body=to_json(payload, inf_nan_mode="null"))


def wire_options(outgoing: Outgoing) -> dict[str, Any]:
    """Keyword arguments of kombu's Producer.publish."""
    return {
        "exchange": outgoing.exchange,
        "routing_key": outgoing.routing_key,
        "content_type": CONTENT_TYPE,
        "content_encoding": ENCODING,
        "headers": dict(outgoing.headers),
        "message_id": outgoing.id,
        "correlation_id": outgoing.correlation_id,
        "mandatory": outgoing.queue is not None,
    }


def decode_event(message: Message) -> Event:
    """Raises ValueError if the message is no event."""
    return Event.model_validate_json(_text(message))


def decode_signal(message: Message) -> tuple[str, dict[str, Any]]:
    """Raises ValueError if the message is no signal."""
    payload = from_json(_text(message))
    if not isinstance(payload, dict):
        raise ValueError("a signal is an object")
    return str(message.delivery_info.get("routing_key", "")), payload


def decode_dead(message: Message) -> DeadLetter:
    text = _text(message)
    deaths = message.headers.get("x-death") or [{}]
    command, event = _read_command(text), None
    if command is None:
        event = _read_event(text)
    return DeadLetter(
        queue=str(message.headers.get("x-first-death-queue") or deaths[0].get("queue", "")),
        reason=str(message.headers.get("x-first-death-reason") or deaths[0].get("reason", "")),
        command=command, event=event, body=text[:65536],
    )  # fmt: skip


def _text(message: Message) -> str:
    body = message.body
    return body if isinstance(body, str) else bytes(body).decode("utf-8", errors="replace")


def _read_command(text: str) -> ExecuteAttempt | None:
    try:
        body = from_json(text)  # which, other than json, answers deep nesting with a ValueError
        return ExecuteAttempt.received(body[0][0]) if isinstance(body, list) else None
    except (ValueError, LookupError, TypeError):
        return None


def _read_event(text: str) -> Event | None:
    try:
        return Event.model_validate_json(text)
    except ValueError:
        return None
