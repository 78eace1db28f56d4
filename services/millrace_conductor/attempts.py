"""What attempts' events do: bind a holder, accept one result a task, retry what may be retried, refuse what is stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUndeliverable,
    AttemptYielded,
    ComputationEnded,
    ErrorInfo,
    Holder,
    StageFinished,
    StageOutputs,
    StagePlanned,
)
from millrace.ledger.state import FINAL_RUN, RunState, StageState, TaskState
from millrace_conductor.effects import AddTasks, Announce, BuryTask, Decision, Effect, Stop, Yield
from millrace_conductor.lifecycle import fail_stage, finish, follow, graph_stage, with_stage
from millrace_conductor.redoing import redo, words
from millrace_conductor.releases import release
from millrace_conductor.retries import GivenUp, again, next_attempt


def attempt(run: RunState, event: AttemptEvent, task: TaskState | None, now: float) -> Decision:
    if isinstance(event, AttemptUndeliverable):
        return _undeliverable(run, event, task, now)
    if task is None or run.status in FINAL_RUN or not _is_current(task, event.holder):
        done_by_same = task is not None and task.status == "succeeded" and task.nonce == event.holder.nonce
        stop = () if done_by_same or not isinstance(event, AttemptStarted) else (Stop(event.holder, "stale"),)
        return Decision(run, None, stop)
    bound = replace(task, status="running", nonce=event.holder.nonce, worker=event.holder.worker)
    if isinstance(event, AttemptStarted):  # of a paused run: its command was out when the pause came
        return Decision(run, bound, (Yield(event.holder, "paused"),) if run.status == "paused" else ())
    if isinstance(event, AttemptSucceeded):
        return _succeeded(run, event, bound, now)
    if isinstance(event, AttemptFailed):
        return _failed(run, event.error, bound, now)
    if isinstance(event, AttemptYielded):
        return Decision(run, again(bound, ready_at=now))
    return Decision(run)


def computation_ended(run: RunState, event: ComputationEnded, task: TaskState | None, now: float) -> Decision:
    """What the task waited for has come, or it is this task's to compute: then it is looked up anew."""
    waits = task is not None and task.status == "subscribed" and task.cache_key == event.key
    if task is None or not waits or run.status in FINAL_RUN:
        return Decision(run)
    if event.answer is None:
        return Decision(run, replace(task, status="undecided", cache_key=""))
    return answered(run, task, event.answer, now)


def answered(run: RunState, task: TaskState, answer: Mapping[str, Any], now: float) -> Decision:
    """Take an answer that was computed before, or in another run, as if the task's own attempt had given it.

    Args:
        answer: Fields of AttemptSucceeded.
    """
    key, stage = task.key, run.stages[task.key.stage]
    event = AttemptSucceeded(
        run_id=key.run_id, stage=key.stage, phase=key.phase, round=key.round, index=key.idx,
        holder=Holder(attempt_id="", fence=max(task.fence, 1), nonce="", worker=""), **answer,
    )  # fmt: skip
    counted = with_stage(run, replace(stage, num_cached=stage.num_cached + 1))
    return _succeeded(counted, event, replace(task, cache_key=""), now)


def _is_current(task: TaskState, holder: Holder) -> bool:
    """Whether the holder is the one that the task's present attempt is bound to, or may be bound to it."""
    if task.status not in ("dispatched", "running") or holder.fence != task.fence:
        return False
    return task.nonce in ("", holder.nonce)


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
    if error.digest:
        redone = redo(run, error, task, now)
        if redone is not None:
            return redone
        error = words(run, error, task)
    then = next_attempt(task, error, graph_stage(run.graph, task.key.stage).retry, now=now)
    if not isinstance(then, GivenUp):
        return Decision(run, then)
    buried: tuple[Effect, ...] = (BuryTask(then.task, "poison", error),) if then.is_poison else ()
    return fail_stage(run, task.key.stage, then.error, now, task=then.task, effects=buried)


def _undeliverable(run: RunState, event: AttemptUndeliverable, task: TaskState | None, now: float) -> Decision:
    # A command that is worked on comes again with each lost connection, until the broker gives up on it: no harm is done.
    if task is None or task.status != "dispatched" or run.status in FINAL_RUN or event.holder.fence != task.fence:
        return Decision(run)
    error = ErrorInfo(
        code="undeliverable",
        message=f"The broker gave up on this attempt: {event.reason}.",
        remedy="See the logs of the stage's workers, and `millrace dead-letters`.",
    )
    failed = replace(task, status="failed")
    buried = (BuryTask(failed, "undeliverable", error),)
    return fail_stage(run, task.key.stage, error, now, task=failed, effects=buried)


def _stage_done(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    spec = graph_stage(run.graph, stage.name)
    if spec.effect == "release":
        return release(run, spec, stage, outputs, task)
    if outputs.verdict in ("failed", "inconclusive"):
        return _rejected(run, stage, outputs, task, now)
    finished = replace(stage, status="succeeded", outputs=outputs, finished_at=now)
    is_cached = stage.attempts == 0 and stage.num_cached > 0
    announce = Announce(
        StageFinished(run_id=run.run_id, stage=stage.name, status="succeeded", outputs=outputs, cached=is_cached)
    )
    return follow(with_stage(run, finished), (announce,), now, task)


def _rejected(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    error = ErrorInfo(
        code="gate_" + str(outputs.verdict),
        message=f"The gate of stage {stage.name!r} {'failed' if outputs.verdict == 'failed' else 'could not decide'}.",
        remedy="See the report's `gate`; nothing was released.",
    )
    run = with_stage(run, replace(stage, status="rejected", outputs=outputs, error=error, finished_at=now))
    announce = Announce(
        StageFinished(run_id=run.run_id, stage=stage.name, status="rejected", outputs=outputs, error=error)
    )
    return finish(
        run, "rejected", now, error=error, reason="the gate failed", stage=stage.name, effects=(announce,), task=task
    )
