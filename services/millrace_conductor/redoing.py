"""Executing a stage again because what it had made is gone or corrupt: found by whoever wanted to read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import ErrorInfo
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.ledger.state import RunState, StageState, TaskState
from millrace_conductor.effects import Decision, Redo
from millrace_conductor.lifecycle import follow, graph_stage

MAX_REDONE = 3
"""A store that loses the same artifact more often than this does not keep what it is given."""


def redo(run: RunState, error: ErrorInfo, task: TaskState, now: float) -> Decision | None:
    """Let the stage that made a lost artifact begin again, and the one that wanted it wait.

    Args:
        error: Of the attempt; its digest is the lost artifact's.
        task: The one that could not read it.

    Returns:
        None if no stage of this run made it, or it was lost too often.
    """
    reader = graph_stage(run.graph, task.key.stage)
    producer = _producer(run, reader, error.digest)
    if producer is None or producer.num_redone >= MAX_REDONE:
        return None
    again = replace(_anew(producer), num_redone=producer.num_redone + 1)
    stages = {**run.stages, reader.name: _anew(run.stages[reader.name]), producer.name: again}
    names = tuple(dict.fromkeys((producer.name, reader.name)))
    return follow(replace(run, stages=stages), (Redo(names, producer.name, error.digest),), now)


def words(run: RunState, error: ErrorInfo, task: TaskState) -> ErrorInfo:
    """What the run is told when nothing could make the artifact again."""
    producer = _producer(run, graph_stage(run.graph, task.key.stage), error.digest)
    if producer is None:
        remedy = (
            "It was given to the run: store it again, upload it once more for instance, and `millrace retry` the run."
        )
        return error.model_copy(update={"remedy": remedy, "retryable": False})
    told = (
        f"{error.message} Stage {producer.name!r} made it {producer.num_redone + 1} times, and it was lost each time."
    )
    remedy = "See whether something deletes or changes objects in the store; then `millrace retry` the run."
    return error.model_copy(update={"message": told, "remedy": remedy, "retryable": False})


def _producer(run: RunState, reader: GraphStage, digest: str) -> StageState | None:
    """The stage that made an artifact which another reads; the reader itself, of its own plan."""
    own = run.stages[reader.name]
    if own.plan is not None and own.plan.digest == digest:
        return own
    for bound in reader.inputs.values():
        for binding in bound if isinstance(bound, tuple) else (bound,):
            if binding.stage and any(ref.digest == digest for ref in _made(run, binding)):
                return run.stages[binding.stage]
    return None


def _made(run: RunState, binding: Binding) -> Iterator[ArtifactRef]:
    outputs = run.stages[binding.stage].outputs
    if outputs is not None:
        yield from outputs.artifacts.values()
        for refs in outputs.lists.values():
            yield from refs


def _anew(stage: StageState) -> StageState:
    return replace(
        stage, status="pending", phase="plan", round=0, num_tasks=0, num_done=0, plan=None, outputs=None, error=None,
        started_at=None, finished_at=None,
    )  # fmt: skip
