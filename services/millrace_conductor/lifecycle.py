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
from millrace_conductor.effects import AddTasks, Announce, Decision, Effect, StopOpenTasks


def start(run: RunState, now: float) -> Decision:
    if run.status != "queued":
        return Decision(run)
    started = replace(run, status="running", started_at=now)
    names = tuple(s.name for s in run.graph.stages)
    announce = Announce(RunStarted(run_id=run.run_id, pipeline=run.graph.pipeline, stages=names))
    return follow(started, (announce,), now)


def follow(run: RunState, effects: tuple[Effect, ...], now: float, task: TaskState | None = None) -> Decision:
    """Start every stage whose needs have succeeded; end the run when nothing is left to do."""
    for spec in run.graph.stages:  # in topological order, so that what a skip skips comes after it
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
            effects = (*effects, announce, AddTasks(spec.name, 0, "plan", 1))
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


def fail_stage(run: RunState, name: str, error: ErrorInfo, now: float, *, task: TaskState | None = None) -> Decision:
    run = with_stage(run, replace(run.stages[name], status="failed", error=error, finished_at=now))
    announce = Announce(StageFinished(run_id=run.run_id, stage=name, status="failed", error=error))
    return finish(run, "failed", now, error=error, reason="the run failed", stage=name, effects=(announce,), task=task)


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
