"""What a worker says of its attempts, and how: an event is published until it is confirmed, under one id."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptSucceeded,
    ErrorInfo,
    Holder,
    event_type,
    make_event,
)
from millrace.errors import to_payload
from millrace.runtime.attempt import Ending

log = structlog.get_logger()

PAUSE_S = (0.2, 5.0)
"""First and longest wait before an event is published again."""


class Announcer:
    """Publishes attempts' events. Safe under many threads, each of which waits for its own event's confirm."""

    def __init__(self, bus: Bus, worker_id: str) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._abandoned = threading.Event()

    def announce(self, command: ExecuteAttempt, data: AttemptEvent) -> bool:
        """Publish what happened to a command's attempt; see `publish`."""
        return self.publish(data, tenant=command.tenant, traceparent=command.trace.get("traceparent", ""))

    def publish(self, data: AttemptEvent, *, tenant: str, traceparent: str = "") -> bool:
        """Publish until confirmed; False if this worker must leave before the broker has answered.

        The id is derived from the holder, so that publishing twice is saying the same thing again.
        """
        kind = event_type(type(data))
        named = f"{data.holder.attempt_id}/{data.holder.nonce}/{kind}"
        event = make_event(
            data, source=f"worker/{self._worker_id}", subject=data.run_id, tenant=tenant, traceparent=traceparent,
            id="evt_" + hashlib.sha256(named.encode()).hexdigest()[:32],
        )  # fmt: skip
        pause_s, longest_s = PAUSE_S
        while True:
            try:
                self._bus.publish([event])
                return True
            except errors.MillraceError as error:
                log.warning("event_waits", type=kind, event_id=event.id, reason=str(error))
            if self._abandoned.wait(pause_s):
                return False
            pause_s = min(pause_s * 2, longest_s)

    def abandon(self) -> None:
        """Stop waiting for a broker that does not answer."""
        self._abandoned.set()


def subject(command: ExecuteAttempt, holder: Holder) -> dict[str, Any]:
    """The fields of every attempt's event."""
    return {
        "run_id": command.run_id, "stage": command.stage, "phase": command.phase, "index": command.index,
        "round": command.round, "holder": holder,
    }  # fmt: skip


def terminal(command: ExecuteAttempt, holder: Holder, ending: Ending, logs: ArtifactRef | None) -> AttemptEvent:
    """The event for an attempt that ended by itself or by an error."""
    if outcome_name(ending) != "succeeded":
        return failed(command, holder, ending, logs)
    answer = {name: value for name, value in (ending.outcome or {}).items() if name != "type"}
    return AttemptSucceeded(
        **subject(command, holder), **answer, logs=logs, duration_s=ending.duration_s,
        peak_memory_bytes=ending.peak_memory_bytes,
    )  # fmt: skip


def failed(command: ExecuteAttempt, holder: Holder, ending: Ending, logs: ArtifactRef | None) -> AttemptFailed:
    payload = to_payload(ending.error) if ending.error else (ending.outcome or {})["error"]
    return AttemptFailed(
        **subject(command, holder), error=ErrorInfo.model_validate(payload), logs=logs, duration_s=ending.duration_s
    )


def outcome_name(ending: Ending) -> str:
    """`succeeded`, `failed`, `cancelled` or `yielded`."""
    if ending.stopped:
        return ending.stopped
    return "succeeded" if ending.outcome and ending.outcome.get("type") == "succeeded" else "failed"
