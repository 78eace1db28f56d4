"""What a worker says of its attempts, and how: an event is published until it is confirmed, under one id.

An attempt that ends at once says only how it ended. That it started is said in a thread of its own, and only of those that
last: it begins the watch over their worker's silence, and nothing else waits for it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
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
    Event,
    Holder,
    event_type,
    make_event,
)
from millrace.errors import to_payload
from millrace.runtime.attempt import Ending

log = structlog.get_logger()

PAUSE_S = (0.2, 5.0)
"""First and longest wait before an event is published again."""

SHORT_S = 0.1
"""An attempt that has ended by then says nothing of its start: a message and a fold less, of five a step."""


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
        return self._publish([self._event(data, tenant=tenant, traceparent=traceparent)])

    def announce_all(self, started: Sequence[tuple[ExecuteAttempt, AttemptEvent]]) -> bool:
        """Publish what happened to several attempts, together."""
        return self._publish(
            [self._event(d, tenant=c.tenant, traceparent=c.trace.get("traceparent", "")) for c, d in started]
        )

    def abandon(self) -> None:
        """Stop waiting for a broker that does not answer."""
        self._abandoned.set()

    def _event(self, data: AttemptEvent, *, tenant: str, traceparent: str) -> Event:
        kind = event_type(type(data))
        named = f"{data.holder.attempt_id}/{data.holder.nonce}/{kind}"
        return make_event(
            data, source=f"worker/{self._worker_id}", subject=data.run_id, tenant=tenant, traceparent=traceparent,
            id="evt_" + hashlib.sha256(named.encode()).hexdigest()[:32],
        )  # fmt: skip

    def _publish(self, events: Sequence[Event]) -> bool:
        pause_s, longest_s = PAUSE_S
        while True:
            try:
                self._bus.publish(events)
                return True
            except errors.MillraceError as error:
                log.warning("event_waits", type=events[0].type, event_id=events[0].id, reason=str(error))
            if self._abandoned.wait(pause_s):
                return False
            pause_s = min(pause_s * 2, longest_s)


class Start:
    """That an attempt started, to be said unless it ends first."""

    __slots__ = ("command", "due_at", "is_over", "make")

    def __init__(self, command: ExecuteAttempt, make: Callable[[], AttemptEvent]) -> None:
        self.command = command
        self.make = make
        self.due_at = time.monotonic() + SHORT_S
        self.is_over = False


class Starts:
    """Says `attempt.started` of whatever still runs after SHORT_S. `run` has a thread; `add` is for any."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self._changed = threading.Condition()
        self._waiting: deque[Start] = deque()
        self._is_closed = False

    def add(self, command: ExecuteAttempt, make: Callable[[], AttemptEvent]) -> Start:
        """Say it in SHORT_S, unless `is_over` is set on what is returned before."""
        start = Start(command, make)
        with self._changed:
            self._waiting.append(start)
            if len(self._waiting) == 1:
                self._changed.notify()
        return start

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def run(self) -> None:
        """Say what is due until closed. Blocks while the broker is away; who ended meanwhile is passed over."""
        while (due := self._take_due()) is not None:
            if due:
                self._announcer.announce_all([(start.command, start.make()) for start in due])

    def _take_due(self) -> list[Start] | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return None
            wait_s = self._waiting[0].due_at - time.monotonic()
            if wait_s > 0:
                self._changed.wait(wait_s)
            now, due = time.monotonic(), []
            while self._waiting and (self._waiting[0].is_over or self._waiting[0].due_at <= now):
                start = self._waiting.popleft()
                if not start.is_over:
                    due.append(start)
            return due


def subject(command: ExecuteAttempt, holder: Holder) -> dict[str, Any]:
    """The fields of every attempt's event."""
    return {
        "run_id": command.run_id, "stage": command.stage, "phase": command.phase, "index": command.index,
        "round": command.round, "holder": holder,
    }  # fmt: skip


def succeeded(
    command: ExecuteAttempt, holder: Holder, ending: Ending, logs: ArtifactRef | None, *, device: str, code_digest: str
) -> AttemptSucceeded:
    answer = {name: value for name, value in (ending.outcome or {}).items() if name != "type"}
    return AttemptSucceeded(
        **subject(command, holder), **answer, logs=logs, duration_s=ending.duration_s,
        peak_memory_bytes=ending.peak_memory_bytes, device=device, code_digest=code_digest,
    )  # fmt: skip


def failed(command: ExecuteAttempt, holder: Holder, ending: Ending, logs: ArtifactRef | None) -> AttemptFailed:
    payload = to_payload(ending.error) if ending.error else (ending.outcome or {})["error"]
    return AttemptFailed(
        **subject(command, holder), error=ErrorInfo.model_validate(payload), logs=logs, duration_s=ending.duration_s
    )


def outcome_name(ending: Ending) -> str:
    """`succeeded`, `failed`, `stale`, `cancelled` or `yielded`."""
    if ending.stopped:
        return ending.stopped
    return str(ending.outcome["type"]) if ending.outcome else "failed"
