"""A release: the proved candidate becomes the endpoint's desired state, and the run waits for a server's word."""

from __future__ import annotations

from dataclasses import replace

from millrace.contracts.events import (
    EndpointReported,
    ErrorInfo,
    ReleaseOverdue,
    ReleaseSuperseded,
    StageFinished,
    StageOutputs,
)
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.ledger.state import RunState, StageState, TaskState
from millrace_conductor.effects import Announce, Decision, Release, SetTimer
from millrace_conductor.lifecycle import fail_stage, follow, stage_input, with_stage

RELEASE_TIMEOUT_S = 120.0
"""How long a run waits for a model server to report the release: a large model may load for a minute."""


def release(run: RunState, spec: GraphStage, stage: StageState, outputs: StageOutputs, task: TaskState) -> Decision:
    """The candidate's proof is accepted: its release commits with it, and the stage waits for a server's word."""
    model = stage_input(run, spec, "model")
    judged = spec.inputs.get("report")
    report = run.stages[judged.stage].outputs if isinstance(judged, Binding) and judged.stage else None
    waiting = replace(stage, phase="release", outputs=outputs)
    overdue = ReleaseOverdue(run_id=run.run_id, stage=stage.name)
    return Decision(
        with_stage(run, waiting),
        task,
        (
            Release(stage.name, spec.endpoint, model, report.metrics if report else {}),
            SetTimer(f"{run.run_id}.{stage.name}.release", RELEASE_TIMEOUT_S, overdue),
        ),
    )


def reported(run: RunState, event: EndpointReported, now: float) -> Decision:
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
        return follow(with_stage(run, finished), (announce,), now)
    if event.status == "failed":
        error = event.error or ErrorInfo(code="stage_failed", message="The model server could not load the release.")
        return fail_stage(run, stage.name, error, now)
    return Decision(run)


def overdue(run: RunState, event: ReleaseOverdue, now: float) -> Decision:
    stage = run.stages.get(event.stage)
    if stage is None or stage.status != "running" or stage.phase != "release":
        return Decision(run)
    error = ErrorInfo(
        code="deadline_exceeded",
        message=f"No model server reported the release within {RELEASE_TIMEOUT_S:.0f} s.",
        remedy="Start one with `millrace serve`; the release stands, and a server that starts will load it.",
        retryable=True,
    )
    return fail_stage(run, stage.name, error, now)


def superseded(run: RunState, event: ReleaseSuperseded, now: float) -> Decision:
    """Servers ignore older generations, so nobody will ever report this one."""
    stage = _waiting_stage(run, event.endpoint)
    if stage is None:
        return Decision(run)
    newer = f"release {event.release} of run {event.by}" if event.release else "a stop of the endpoint"
    error = ErrorInfo(
        code="conflict",
        message=f"The release was replaced by {newer} before any model server had loaded it.",
        remedy="Submit again if this model is the one to serve.",
    )
    return fail_stage(run, stage.name, error, now)


def is_waiting(run: RunState) -> bool:
    """Whether a release has been made that no server has reported yet: too late to cancel."""
    return any(s.phase == "release" and s.status == "running" for s in run.stages.values())


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
