"""What attempts' events do: bind a holder, accept one result a task, retry what may be retried, refuse what is stale."""

from __future__ import annotations

from dataclasses import replace

from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUndeliverable,
    AttemptYielded,
    ErrorInfo,
    Holder,
    StageFinished,
    StageOutputs,
    StagePlanned,
)
from millrace.ledger.state import FINAL_RUN, RunState, StageState, TaskState
from millrace_conductor.effects import AddTasks, Announce, Decision, Stop
from millrace_conductor.lifecycle import fail_stage, finish, follow, graph_stage, with_stage
from millrace_conductor.releases import release

BACKOFF_MAX_S = 300.0


def attempt(run: RunState, event: AttemptEvent, task: TaskState | None, now: float) -> Decision:
    if isinstance(event, AttemptUndeliverable):
        return _undeliverable(run, event, task, now)
    if task is None or run.status in FINAL_RUN or not _is_current(task, event.holder):
        done_by_same = task is not None and task.status == "succeeded" and task.nonce == event.holder.nonce
        stop = () if done_by_same or not isinstance(event, AttemptStarted) else (Stop(event.holder, "stale"),)
        return Decision(run, None, stop)
    bound = replace(task, status="running", nonce=event.holder.nonce, worker=event.holder.worker)
    if isinstance(event, AttemptStarted):
        return Decision(run, bound)
    if isinstance(event, AttemptSucceeded):
        return _succeeded(run, event, bound, now)
    if isinstance(event, AttemptFailed):
        return _failed(run, event.error, bound, now)
    if isinstance(event, AttemptYielded):
        return Decision(run, _again(bound, ready_at=now, failures=bound.failures))
    return Decision(run)


def _is_current(task: TaskState, holder: Holder) -> bool:
    """Whether the holder is the one that the task's present attempt is bound to, or may be bound to it."""
    if task.status not in ("dispatched", "running") or holder.fence != task.fence:
        return False
    return task.nonce in ("", holder.nonce)


def _again(task: TaskState, *, ready_at: float, failures: int) -> TaskState:
    """The task, pending again. The dispatcher gives it the next fence."""
    return replace(
        task, status="pending", nonce="", worker="", failures=failures, ready_at=ready_at, dispatched_at=None
    )


def _succeeded(run: RunState, event: AttemptSucceeded, task: TaskState, now: float) -> Decision:
    stage = run.stages[task.key.stage]
    done = replace(task, status="succeeded")
    if event.outputs is not None:
        return _stage_done(run, stage, event.outputs, done, now)
    if event.plan is not None:
        round_ = stage.round + 1 if task.key.phase == "merge" else stage.round
        planned = replace(stage, phase="work", round=round_, num_tasks=event.num_tasks, num_done=0, plan=event.plan)
        announce = StagePlanned(run_id=run.run_id, stage=stage.name, round=round_, num_tasks=event.num_tasks)
        return Decision(
            with_stage(run, planned), done, (Announce(announce), AddTasks(stage.name, round_, "work", event.num_tasks))
        )
    num_done = stage.num_done + 1
    counted = replace(stage, num_done=num_done, phase="merge" if num_done == stage.num_tasks else stage.phase)
    merge = (AddTasks(stage.name, stage.round, "merge", 1),) if num_done == stage.num_tasks else ()
    return Decision(with_stage(run, counted), replace(done, result=event.result or {}), merge)


def _failed(run: RunState, error: ErrorInfo, task: TaskState, now: float) -> Decision:
    retry = graph_stage(run.graph, task.key.stage).retry
    failures = task.failures + 1
    if error.retryable and failures < retry.max_attempts:
        delay = min(retry.backoff_s * 2 ** (failures - 1), BACKOFF_MAX_S)
        return Decision(run, _again(task, ready_at=now + delay, failures=failures))
    return fail_stage(run, task.key.stage, error, now, task=replace(task, status="failed", failures=failures))


def _undeliverable(run: RunState, event: AttemptUndeliverable, task: TaskState | None, now: float) -> Decision:
    is_open = task is not None and task.status in ("dispatched", "running")
    if task is None or not is_open or run.status in FINAL_RUN or event.holder.fence != task.fence:
        return Decision(run)
    error = ErrorInfo(
        code="undeliverable",
        message=f"The broker gave up on this attempt: {event.reason}.",
        remedy="See the logs of the stage's workers; the command itself is in the conductor's log.",
    )
    return fail_stage(run, task.key.stage, error, now, task=replace(task, status="failed"))


def _stage_done(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    spec = graph_stage(run.graph, stage.name)
    if spec.effect == "release":
        return release(run, spec, stage, outputs, task)
    if outputs.verdict in ("failed", "inconclusive"):
        return _rejected(run, stage, outputs, task, now)
    finished = replace(stage, status="succeeded", outputs=outputs, finished_at=now)
    announce = Announce(StageFinished(run_id=run.run_id, stage=stage.name, status="succeeded", outputs=outputs))
    return follow(with_stage(run, finished), (announce,), now, task)


def _rejected(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    error = ErrorInfo(
        code="gate_" + str(outputs.verdict),
        message=f"The gate of stage {stage.name!r} {'failed' if outputs.verdict == 'failed' else 'could not decide'}.",
        remedy="See the report's `gate`; the endpoint keeps its current release.",
    )
    run = with_stage(run, replace(stage, status="rejected", outputs=outputs, error=error, finished_at=now))
    announce = Announce(
        StageFinished(run_id=run.run_id, stage=stage.name, status="rejected", outputs=outputs, error=error)
    )
    return finish(
        run, "rejected", now, error=error, reason="the gate failed", stage=stage.name, effects=(announce,), task=task
    )
