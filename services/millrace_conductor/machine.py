"""The lifecycle as a pure function: state and event in, state and effects out; no clock, broker, store or database.

A run is a header, its stages' counters, and the one task that the event names. Events come at least once and in any
order; whatever does not fit the present state changes nothing, or tells a stale holder to stop.
"""

from __future__ import annotations

from millrace.contracts.base import Contract
from millrace.contracts.events import (
    AttemptEvent,
    CancelRequested,
    ComputationEnded,
    EndpointReported,
    ErrorInfo,
    EventRefused,
    PauseRequested,
    ReleaseOverdue,
    ReleaseSuperseded,
    ResumeRequested,
    RetryRequested,
    RunAdmitted,
    RunSubmitted,
)
from millrace.ledger.state import FINAL_RUN, RunState, TaskState
from millrace_conductor import attempts, lifecycle, releases, wishes
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
    if isinstance(event, ComputationEnded):
        return attempts.computation_ended(run, event, task, now)
    if isinstance(event, RunAdmitted):
        return wishes.admitted(run, now)
    if wishes.is_accepted_retry(run) and isinstance(event, RetryRequested):
        return wishes.retry(run, now)
    if run.status in FINAL_RUN or (
        wishes.is_accepted_retry(run) and not isinstance(event, CancelRequested | EventRefused)
    ):
        return Decision(run)
    if isinstance(event, RunSubmitted):
        return lifecycle.enter(run, now)
    if isinstance(event, CancelRequested):
        return wishes.cancel(run, event, now)
    if isinstance(event, PauseRequested):
        return wishes.pause(run, event)
    if isinstance(event, ResumeRequested):
        return wishes.resume(run, now)
    if isinstance(event, EndpointReported):
        return releases.reported(run, event, now)
    if isinstance(event, ReleaseOverdue):
        return releases.overdue(run, event, now)
    if isinstance(event, ReleaseSuperseded):
        return releases.superseded(run, event, now)
    if isinstance(event, EventRefused):
        return _refused(run, event, now)
    return Decision(run)


def _refused(run: RunState, event: EventRefused, now: float) -> Decision:
    error = ErrorInfo(
        code="event_refused",
        message=f"Event {event.event_id} could not be applied: {event.reason}",
        remedy="Run the same version of Millrace in every process, and submit again.",
    )
    return lifecycle.finish(run, "failed", now, error=error, reason="an event was refused")
