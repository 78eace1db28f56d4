"""The lifecycle as a pure function: state and event in, state and effects out; no clock, broker, store or database.

A run is a header, its stages' counters, and the one task that the event names. Events come at least once and in any
order; whatever does not fit the present state changes nothing, or tells a stale holder to stop.
"""

from __future__ import annotations

from millrace.contracts.base import Contract
from millrace.contracts.events import (
    AttemptEvent,
    CancelRequested,
    EndpointReported,
    ErrorInfo,
    EventRefused,
    ReleaseOverdue,
    ReleaseSuperseded,
    RunSubmitted,
)
from millrace.ledger.state import FINAL_RUN, RunState, TaskState
from millrace_conductor import attempts, lifecycle, releases
from millrace_conductor.effects import Decision


def advance(run: RunState, event: Contract, *, task: TaskState | None = None, now: float) -> Decision:
    """Fold one event into a run.

    Args:
        run: The run as it is.
        event: Typed data of the event.
        task: The task that an attempt's event names; None if there is none.
        now: Seconds.
    """
    if isinstance(event, AttemptEvent):
        return attempts.attempt(run, event, task, now)
    if run.status in FINAL_RUN:
        return Decision(run)
    if isinstance(event, RunSubmitted):
        return lifecycle.start(run, now)
    if isinstance(event, CancelRequested):
        return _cancel(run, event, now)
    if isinstance(event, EndpointReported):
        return releases.reported(run, event, now)
    if isinstance(event, ReleaseOverdue):
        return releases.overdue(run, event, now)
    if isinstance(event, ReleaseSuperseded):
        return releases.superseded(run, event, now)
    if isinstance(event, EventRefused):
        return _refused(run, event, now)
    return Decision(run)


def _cancel(run: RunState, event: CancelRequested, now: float) -> Decision:
    """End the run, unless it has released: the endpoint has moved, and only another release moves it back."""
    if releases.is_waiting(run):
        return Decision(run)
    why = ErrorInfo(code="cancelled", message=event.reason or "nobody said why.")
    return lifecycle.finish(run, "cancelled", now, error=why, reason=event.reason or "cancelled")


def _refused(run: RunState, event: EventRefused, now: float) -> Decision:
    error = ErrorInfo(
        code="event_refused",
        message=f"Event {event.event_id} could not be applied: {event.reason}",
        remedy="Run the same version of Millrace in every process, and submit again.",
    )
    return lifecycle.finish(run, "failed", now, error=error, reason="an event was refused")
