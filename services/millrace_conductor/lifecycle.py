"""A run from its start to its end: which stages begin, which are skipped, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.conditions import parse_condition
from millrace.contracts.events import ErrorInfo, RunFinished, RunStarted, StageFinished, StageStarted
from millrace.contracts.pipelines import Graph, GraphStage, RunStatus
from millrace.ledger.state import RunState, StageState, TaskState
from millrace_conductor.effects import AddTasks, Admit, Announce, Decision, Effect, ReviveTasks, StopOpenTasks


def enter(run: RunState, now: float, effects: tuple[Effect, ...] = ()) -> Decision:
    """Start a queued run, or let it wait for its turn where its pipeline limits how many go at once."""
    if run.status != "queued":
        return Decision(run, None, effects)
    if run.graph.max_runs is not None:
        return Decision(run, None, (*effects, Admit()))
    return start(run, now, effects)


def start(run: RunState, now: float, effects: tuple[Effect, ...] = ()) -> Decision:
    """Start a queued run whose turn it is; one that began before goes on with what has not succeeded."""
    if run.started_at is None:
        names = tuple(s.name for s in run.graph.stages)
        effects = (*effects, Announce(RunStarted(run_id=run.run_id, pipeline=run.graph.pipeline, stages=names)))
    return follow(replace(run, status="running", started_at=run.started_at or now), effects, now)


def follow(run: RunState, effects: tuple[Effect, ...], now: float, task: TaskState | None = None) -> Decision:
    """Start every stage whose needs have succeeded, unless the run is paused; end the run when nothing is left to do."""
    stages = run.graph.stages if run.status == "running" else ()
    for spec in stages:  # in topological order, so that what a skip skips comes after it
        stage, needs = run.stages[spec.name], [run.stages[n].status for n in spec.needs]
        if stage.status != "pending":
            continue
        if "skipped" in needs or (all(n == "succeeded" for n in needs) and not _is_wanted(run, spec)):
            run = with_stage(run, replace(stage, status="skipped", finished_at=now))
            skipped = StageFinished(run_id=run.run_id, stage=stage.name, status="skipped")
            effects = (*effects, Announce(skipped))
        elif all(n == "succeeded" for n in needs):
            run = with_stage(run, replace(stage, status="running", started_at=now))
            announce = Announce(StageStarted(run_id=run.run_id, stage=spec.name, kind=spec.kind))
            effects = (*effects, announce, _first_tasks(stage))
    if all(s.status in ("succeeded", "skipped") for s in run.stages.values()):
        run = replace(run, status="succeeded", finished_at=now)
        effects = (*effects, Announce(RunFinished(run_id=run.run_id, status="succeeded")))
    return Decision(run, task, effects)


def _first_tasks(stage: StageState) -> Effect:
    """What a stage begins with: its plan, or, where it had begun before, what did not succeed of its present phase."""
    if stage.started_at is None:
        return AddTasks(stage.name, 0, "plan", 1)
    assert stage.phase != "release", "a run that has released is not retried"
    return ReviveTasks(stage.name, stage.round, stage.phase)


def _is_wanted(run: RunState, spec: GraphStage) -> bool:
    if not spec.when:
        return True
    known: dict[str, Mapping[str, Any]] = {
        name: {**s.outputs.metrics, "verdict": s.outputs.verdict}
        for name, s in run.stages.items()
        if s.outputs is not None
    }
    return parse_condition(spec.when).holds(known)


def finish(
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


def fail_stage(
    run: RunState,
    name: str,
    error: ErrorInfo,
    now: float,
    *,
    task: TaskState | None = None,
    effects: tuple[Effect, ...] = (),
) -> Decision:
    run = with_stage(run, replace(run.stages[name], status="failed", error=error, finished_at=now))
    effects = (*effects, Announce(StageFinished(run_id=run.run_id, stage=name, status="failed", error=error)))
    return finish(run, "failed", now, error=error, reason="the run failed", stage=name, effects=effects, task=task)


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


def with_stage(run: RunState, stage: StageState) -> RunState:
    return replace(run, stages={**run.stages, stage.name: stage})
