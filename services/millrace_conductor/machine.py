"""The lifecycle as a pure function: state and event in, state and effects out; no clock, broker, store or database.

A run is a header, its stages' counters, and the one task that the event names. Events come at least once and in any
order; whatever does not fit the present state changes nothing, or tells a stale holder to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.commands import Phase
from millrace.contracts.conditions import parse_condition
from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUndeliverable,
    AttemptYielded,
    CancelRequested,
    EndpointReported,
    ErrorInfo,
    EventRefused,
    Holder,
    ReleaseOverdue,
    RunFinished,
    RunStarted,
    RunSubmitted,
    StageFinished,
    StageOutputs,
    StagePlanned,
    StageStarted,
)
from millrace.contracts.pipelines import Graph, GraphStage, RunStatus
from millrace.ledger.state import FINAL_RUN, RunState, StageState, TaskState

RELEASE_TIMEOUT_S = 120.0
"""How long a run waits for a model server to report the release: a large model may load for a minute."""

BACKOFF_MAX_S = 300.0


# --- effects: what the handlers carry out in the same transaction ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Announce:
    """Journal and publish a fact."""

    data: Contract


@dataclass(frozen=True, slots=True)
class AddTasks:
    """Make tasks `0 .. count-1` of a stage's phase pending."""

    stage: str
    round: int
    phase: Phase
    count: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a holder to stop: it is stale, or its run is over."""

    holder: Holder
    reason: str


@dataclass(frozen=True, slots=True)
class StopOpenTasks:
    """Tell whoever works on open tasks of the run to stop, and close those tasks."""

    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Advance an endpoint to a model, once the transaction commits."""

    stage: str
    endpoint: str
    model: ArtifactRef
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver an event to this run after a delay, unless the run ends before."""

    name: str
    delay_s: float
    data: Contract


Effect = Announce | AddTasks | Stop | StopOpenTasks | Release | SetTimer


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one event."""

    run: RunState
    task: TaskState | None = None
    effects: tuple[Effect, ...] = ()


def advance(run: RunState, event: Contract, *, task: TaskState | None = None, now: float) -> Decision:
    """Fold one event into a run.

    Args:
        run: The run as it is.
        event: Typed data of the event.
        task: The task that an attempt's event names; None if there is none.
        now: The database's clock in seconds.
    """
    if isinstance(event, AttemptEvent):
        return _attempt(run, event, task, now)
    if run.status in FINAL_RUN:
        return Decision(run)
    if isinstance(event, RunSubmitted):
        return _start(run, now)
    if isinstance(event, CancelRequested):
        why = ErrorInfo(code="cancelled", message=event.reason or "nobody said why.")
        return _finish(run, "cancelled", now, error=why, reason=event.reason or "cancelled")
    if isinstance(event, EndpointReported):
        return _reported(run, event, now)
    if isinstance(event, ReleaseOverdue):
        return _overdue(run, event, now)
    if isinstance(event, EventRefused):
        return _refused(run, event, now)
    return Decision(run)


# --- the run ---------------------------------------------------------------------------------------------------------


def _start(run: RunState, now: float) -> Decision:
    if run.status != "queued":
        return Decision(run)
    started = replace(run, status="running", started_at=now)
    names = tuple(s.name for s in run.graph.stages)
    announce = Announce(RunStarted(run_id=run.run_id, pipeline=run.graph.pipeline, stages=names))
    return _follow(started, (announce,), now)


def _follow(run: RunState, effects: tuple[Effect, ...], now: float, task: TaskState | None = None) -> Decision:
    """Start every stage whose needs have succeeded; end the run when nothing is left to do."""
    moved = True
    while moved:
        moved = False
        for spec in run.graph.stages:
            stage = run.stages[spec.name]
            if stage.status != "pending":
                continue
            needs = [run.stages[n].status for n in spec.needs]
            if "skipped" in needs or (all(n == "succeeded" for n in needs) and not _is_wanted(run, spec)):
                run = _with(run, replace(stage, status="skipped", finished_at=now))
                skipped = StageFinished(run_id=run.run_id, stage=stage.name, status="skipped")
                effects, moved = (*effects, Announce(skipped)), True
            elif all(n == "succeeded" for n in needs):
                started = replace(stage, status="running", started_at=now)
                run = _with(run, started)
                effects = (
                    *effects,
                    Announce(StageStarted(run_id=run.run_id, stage=spec.name, kind=spec.kind)),
                    AddTasks(spec.name, 0, "plan", 1),
                )
                moved = True
    if all(s.status in ("succeeded", "skipped") for s in run.stages.values()):
        run = replace(run, status="succeeded", finished_at=now)
        effects = (*effects, Announce(RunFinished(run_id=run.run_id, status="succeeded")))
    return Decision(run, task, effects)


def _is_wanted(run: RunState, spec: GraphStage) -> bool:
    if not spec.when:
        return True
    known: dict[str, Mapping[str, Any]] = {
        name: {**s.outputs.metrics, "verdict": s.outputs.verdict}
        for name, s in run.stages.items()
        if s.outputs is not None
    }
    return parse_condition(spec.when).holds(known)


def _refused(run: RunState, event: EventRefused, now: float) -> Decision:
    error = ErrorInfo(
        code="event_refused",
        message=f"Event {event.event_id} could not be applied: {event.reason}",
        remedy="Run the same version of Millrace in every process, and submit again.",
    )
    return _finish(run, "failed", now, error=error, reason="an event was refused")


def _finish(
    run: RunState,
    status: RunStatus,
    now: float,
    *,
    error: ErrorInfo | None,
    reason: str,
    stage: str = "",
    effects: tuple[Effect, ...] = (),
    task: TaskState | None = None,
) -> Decision:
    """End a run otherwise than by success: stop what runs, skip what never began."""
    stages = {}
    for name, s in run.stages.items():
        if s.status == "running":
            s = replace(s, status="cancelled", finished_at=now)
            effects = (*effects, Announce(StageFinished(run_id=run.run_id, stage=name, status="cancelled")))
        elif s.status == "pending":
            s = replace(s, status="skipped", finished_at=now)
            effects = (*effects, Announce(StageFinished(run_id=run.run_id, stage=name, status="skipped")))
        stages[name] = s
    run = replace(run, status=status, finished_at=now, stage=stage, error=error, stages=stages)
    finished = Announce(RunFinished(run_id=run.run_id, status=status, stage=stage, error=error))
    return Decision(run, task, (*effects, StopOpenTasks(reason), finished))


# --- attempts --------------------------------------------------------------------------------------------------------


def _attempt(run: RunState, event: AttemptEvent, task: TaskState | None, now: float) -> Decision:
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
            _with(run, planned), done, (Announce(announce), AddTasks(stage.name, round_, "work", event.num_tasks))
        )
    num_done = stage.num_done + 1
    counted = replace(stage, num_done=num_done, phase="merge" if num_done == stage.num_tasks else stage.phase)
    merge = (AddTasks(stage.name, stage.round, "merge", 1),) if num_done == stage.num_tasks else ()
    return Decision(_with(run, counted), replace(done, result=event.result or {}), merge)


def _failed(run: RunState, error: ErrorInfo, task: TaskState, now: float) -> Decision:
    retry = graph_stage(run.graph, task.key.stage).retry
    failures = task.failures + 1
    if error.retryable and failures < retry.max_attempts:
        delay = min(retry.backoff_s * 2 ** (failures - 1), BACKOFF_MAX_S)
        return Decision(run, _again(task, ready_at=now + delay, failures=failures))
    return _stage_failed(run, task.key.stage, error, now, task=replace(task, status="failed", failures=failures))


def _undeliverable(run: RunState, event: AttemptUndeliverable, task: TaskState | None, now: float) -> Decision:
    is_open = task is not None and task.status in ("dispatched", "running")
    if task is None or not is_open or run.status in FINAL_RUN or event.holder.fence != task.fence:
        return Decision(run)
    error = ErrorInfo(
        code="undeliverable",
        message=f"The broker gave up on this attempt: {event.reason}.",
        remedy="See `millrace doctor`; the command is kept in the dead-letter queue.",
    )
    return _stage_failed(run, task.key.stage, error, now, task=replace(task, status="failed"))


def _stage_failed(run: RunState, name: str, error: ErrorInfo, now: float, *, task: TaskState | None = None) -> Decision:
    run = _with(run, replace(run.stages[name], status="failed", error=error, finished_at=now))
    announce = Announce(StageFinished(run_id=run.run_id, stage=name, status="failed", error=error))
    return _finish(run, "failed", now, error=error, reason="the run failed", stage=name, effects=(announce,), task=task)


def _stage_done(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    spec = graph_stage(run.graph, stage.name)
    if spec.effect == "release":
        return _release(run, spec, stage, outputs, task)
    if outputs.verdict in ("failed", "inconclusive"):
        return _rejected(run, stage, outputs, task, now)
    finished = replace(stage, status="succeeded", outputs=outputs, finished_at=now)
    announce = Announce(StageFinished(run_id=run.run_id, stage=stage.name, status="succeeded", outputs=outputs))
    return _follow(_with(run, finished), (announce,), now, task)


def _rejected(run: RunState, stage: StageState, outputs: StageOutputs, task: TaskState, now: float) -> Decision:
    error = ErrorInfo(
        code="gate_" + str(outputs.verdict),
        message=f"The gate of stage {stage.name!r} {'failed' if outputs.verdict == 'failed' else 'could not decide'}.",
        remedy="See the report's `gate`; the endpoint keeps its current release.",
    )
    run = _with(run, replace(stage, status="rejected", outputs=outputs, error=error, finished_at=now))
    announce = Announce(
        StageFinished(run_id=run.run_id, stage=stage.name, status="rejected", outputs=outputs, error=error)
    )
    return _finish(
        run, "rejected", now, error=error, reason="the gate failed", stage=stage.name, effects=(announce,), task=task
    )


# --- releases --------------------------------------------------------------------------------------------------------


def _release(run: RunState, spec: GraphStage, stage: StageState, outputs: StageOutputs, task: TaskState) -> Decision:
    """The candidate's proof is accepted: its release commits with it, and the stage waits for a server's word."""
    model = stage_input(run, spec, "model")
    report = next((s.outputs for n in spec.needs if (s := run.stages[n]).outputs and s.outputs.verdict), None)
    waiting = replace(stage, phase="release", outputs=outputs)
    overdue = ReleaseOverdue(run_id=run.run_id, stage=stage.name)
    return Decision(
        _with(run, waiting),
        task,
        (
            Release(stage.name, spec.endpoint, model, report.metrics if report else {}),
            SetTimer(f"{run.run_id}.{stage.name}.release", RELEASE_TIMEOUT_S, overdue),
        ),
    )


def _reported(run: RunState, event: EndpointReported, now: float) -> Decision:
    stage = _waiting_stage(run, event.name)
    if stage is None or event.run_id != run.run_id:
        return Decision(run)
    if event.status == "ready":
        outputs = stage.outputs or StageOutputs()
        outputs = outputs.model_copy(
            update={"summary": {**outputs.summary, "url": event.url, "generation": event.generation}}
        )
        finished = replace(stage, status="succeeded", outputs=outputs, finished_at=now)
        announce = Announce(StageFinished(run_id=run.run_id, stage=stage.name, status="succeeded", outputs=outputs))
        return _follow(_with(run, finished), (announce,), now)
    if event.status == "failed":
        error = event.error or ErrorInfo(code="stage_failed", message="The model server could not load the release.")
        return _stage_failed(run, stage.name, error, now)
    return Decision(run)


def _overdue(run: RunState, event: ReleaseOverdue, now: float) -> Decision:
    stage = run.stages.get(event.stage)
    if stage is None or stage.status != "running" or stage.phase != "release":
        return Decision(run)
    error = ErrorInfo(
        code="deadline_exceeded",
        message=f"No model server reported the release within {RELEASE_TIMEOUT_S:.0f} s.",
        remedy="Start one with `millrace serve`; the release stands, and a server that starts will load it.",
        retryable=True,
    )
    return _stage_failed(run, stage.name, error, now)


def _waiting_stage(run: RunState, endpoint: str) -> StageState | None:
    for spec in run.graph.stages:
        stage = run.stages[spec.name]
        if (
            spec.effect == "release"
            and spec.endpoint == endpoint
            and stage.phase == "release"
            and stage.status == "running"
        ):
            return stage
    return None


# --- looking things up -----------------------------------------------------------------------------------------------


def graph_stage(graph: Graph, name: str) -> GraphStage:
    return next(s for s in graph.stages if s.name == name)


def stage_input(run: RunState, spec: GraphStage, port: str) -> ArtifactRef:
    """The artifact at an input port; its stage has succeeded, or the artifact was known at submit."""
    binding = spec.inputs[port]
    assert not isinstance(binding, tuple)
    if binding.artifact is not None:
        return binding.artifact
    outputs = run.stages[binding.stage].outputs
    assert outputs is not None
    return outputs.artifacts[binding.port]


def _with(run: RunState, stage: StageState) -> RunState:
    return replace(run, stages={**run.stages, stage.name: stage})
