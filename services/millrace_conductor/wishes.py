"""What users do with a run that is there: cancel it, pause it, resume it, go on with it after its end."""

from __future__ import annotations

from dataclasses import replace

from millrace.contracts.events import (
    CancelRequested,
    ErrorInfo,
    PauseRequested,
    RunPaused,
    RunResumed,
    RunRetried,
)
from millrace.ledger.state import RunState, StageState
from millrace_conductor import releases
from millrace_conductor.effects import Admit, Announce, Decision, PauseTasks, ResumeTasks
from millrace_conductor.lifecycle import enter, finish, follow, start


def cancel(run: RunState, event: CancelRequested, now: float) -> Decision:
    """End the run, unless it has released: the endpoint has moved, and only another release moves it back."""
    if releases.is_waiting(run):
        return Decision(run)
    why = ErrorInfo(code="cancelled", message=event.reason or "no reason was given.")
    return finish(run, "cancelled", now, error=why, reason=event.reason or "cancelled")


def pause(run: RunState, event: PauseRequested) -> Decision:
    """Start nothing more; what an attempt finishes nevertheless counts, and what follows from it waits."""
    if run.status == "paused":
        return Decision(run)
    paused = Announce(RunPaused(run_id=run.run_id, reason=event.reason))
    return Decision(replace(run, status="paused"), None, (PauseTasks(), paused))


def resume(run: RunState, now: float) -> Decision:
    """Go on; a run that was paused before its turn came waits for it again."""
    if run.status != "paused":
        return Decision(run)
    resumed = Announce(RunResumed(run_id=run.run_id))
    if run.started_at is None:
        return enter(replace(run, status="queued"), now, (resumed,))
    return follow(replace(run, status="running"), (resumed, ResumeTasks()), now)


def admitted(run: RunState, now: float) -> Decision:
    """The run's turn has come; if it can no longer take it, it is the next one's."""
    is_waiting = run.status == "queued" and not is_accepted_retry(run)
    return start(run, now) if is_waiting else Decision(run, None, (Admit(),))


def is_accepted_retry(run: RunState) -> bool:
    """Whether the run has ended, and a wish to go on with it was accepted: the ledger made it `queued` at once."""
    return run.status == "queued" and run.finished_at is not None


def retry(run: RunState, now: float) -> Decision:
    """Go on where the run ended: every stage that did not succeed begins again, with what it had done kept."""
    again = tuple(name for name, s in run.stages.items() if s.status != "succeeded")
    stages = {name: _as_pending(s) if name in again else s for name, s in run.stages.items()}
    run = replace(run, status="queued", finished_at=None, stage="", error=None, stages=stages)
    return enter(run, now, (Announce(RunRetried(run_id=run.run_id, stages=again)),))


def _as_pending(stage: StageState) -> StageState:
    """Counters, plan and `started_at` stay: they say what is done already, and that there is something to revive."""
    return replace(stage, status="pending", outputs=None, error=None, finished_at=None)
