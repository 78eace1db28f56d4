"""Plan, work, merge: which of them one attempt executes, and what it answers. Knows no socket and no process."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import StageOutputs
from millrace.runtime.losses import blamed_on, blamed_on_inputs
from millrace.runtime.stage import MAX_RESULT_BYTES, Context, Inputs, NextPlan, Result, Results, Task
from millrace.store.pages import read_pages, read_row, write_pages

MAX_SUMMARY_BYTES = 4096
OUTPUTS_KEY = "$outputs"
"""The key under which a task's result carries StageOutputs, where a task is a whole stage (`foreach`)."""

Answer = dict[str, Any]
"""Fields of AttemptSucceeded: `outputs`, or `result`, or `plan` with `num_tasks`."""


class StageCode(Protocol):
    """A stage's three functions, over a module, a function, or either of them mapped over items."""

    name: str
    can_merge: bool

    def plan(self, context: Context, inputs: Inputs) -> Sequence[Task]: ...

    def work(self, context: Context, inputs: Inputs, task: Task) -> Result | StageOutputs: ...

    def merge(self, context: Context, inputs: Inputs, results: Results) -> StageOutputs | NextPlan: ...


def execute(command: ExecuteAttempt, code: StageCode, context: Context, inputs: Inputs) -> Answer:
    """Execute one attempt's phase. A plan of one task goes on within the attempt.

    Raises:
        StageFailed: A task, a result or the outputs are not what their contract says.
        Exception: Whatever the stage's code raises.
    """
    with blamed_on_inputs(inputs):
        if command.phase == "work":
            with blamed_on(command.plan):
                task = read_row(context.store, _given(command.plan, "plan"), command.index)
            return {"result": _row(code, code.work(context, inputs, task))}
        if command.phase == "merge":
            results = read_pages(context.store, _given(command.results, "results"))
            return _finish(command, code, context, inputs, code.merge(context, inputs, results))
        return _go_on(command, code, context, inputs, code.plan(context, inputs))


def execute_here(command: ExecuteAttempt, code: StageCode, context: Context, inputs: Inputs) -> StageOutputs:
    """Execute a whole stage in this process, task after task: one item of a `foreach`, or a test."""
    ended: StageOutputs | NextPlan = NextPlan(code.plan(context, inputs))
    while isinstance(ended, NextPlan):
        tasks = _checked_plan(code, ended.tasks)
        if len(tasks) == 1:
            ended = _only(code, context, inputs, tasks[0])
        else:
            ended = code.merge(context, inputs, (_row(code, code.work(context, inputs, task)) for task in tasks))
    return check_outputs(command, ended, context)


def to_row(made: StageOutputs) -> Result:
    """A whole stage's outputs as one task's result."""
    return {OUTPUTS_KEY: made.model_dump(mode="json")}


def check_outputs(command: ExecuteAttempt, ended: StageOutputs, context: Context) -> StageOutputs:
    """Every promised port is filled, with its type; the summary is small."""
    found: dict[str, Sequence[ArtifactRef]] = {port: (ref,) for port, ref in ended.artifacts.items()}
    found.update(ended.lists)
    missing = sorted(command.outputs.keys() - found.keys())
    if missing:
        raise errors.StageFailed(
            f"Stage {command.stage!r} ended without its output {missing[0]!r}; it gave {sorted(found) or 'none'}."
        )
    for port, refs in found.items():
        expected = command.outputs.get(port)
        if expected is None:
            raise errors.StageFailed(
                f"Stage {command.stage!r} gave an output {port!r}; {errors.nearest(port, command.outputs)}"
            )
        for ref in refs:
            if expected not in ("any", ref.type):
                raise errors.StageFailed(
                    f"Output {port!r} of stage {command.stage!r} must be a {expected}, and is a {ref.type}."
                )
    metrics = {name: value for name, value in ended.metrics.items() if math.isfinite(value)}
    if len(metrics) < len(ended.metrics):
        context.log.warning("metrics_not_finite", metrics=sorted(ended.metrics.keys() - metrics.keys()))
    return ended.model_copy(update={"summary": _trimmed(ended.summary, context), "metrics": metrics})


def _go_on(
    command: ExecuteAttempt, code: StageCode, context: Context, inputs: Inputs, planned: Sequence[Task]
) -> Answer:
    """After a plan: execute its only task, or hand its tasks to other attempts."""
    tasks = _checked_plan(code, planned)
    if len(tasks) == 1:
        return _finish(command, code, context, inputs, _only(code, context, inputs, tasks[0]))
    if not code.can_merge:
        raise errors.StageFailed(f"{code.name} planned {len(tasks)} tasks and has no merge to make one result of them.")
    return {"plan": write_pages(context.store, "plan", tasks), "num_tasks": len(tasks)}


def _finish(
    command: ExecuteAttempt, code: StageCode, context: Context, inputs: Inputs, ended: StageOutputs | NextPlan
) -> Answer:
    if isinstance(ended, NextPlan):
        return _go_on(command, code, context, inputs, ended.tasks)
    if not isinstance(ended, StageOutputs):
        raise errors.StageFailed(f"{code.name} ended with {type(ended).__name__} instead of outputs().")
    return {"outputs": check_outputs(command, ended, context)}


def _only(code: StageCode, context: Context, inputs: Inputs, task: Task) -> StageOutputs | NextPlan:
    worked = code.work(context, inputs, task)
    if isinstance(worked, StageOutputs) or not code.can_merge:
        return worked  # type: ignore[return-value]  # a Result here is the stage's mistake, which _finish names
    return code.merge(context, inputs, iter([_row(code, worked)]))


def _checked_plan(code: StageCode, planned: Iterable[Task]) -> list[Task]:
    tasks = list(planned)
    if not tasks:
        raise errors.InvalidData(
            f"{code.name} planned no tasks.", remedy="Give it at least one item, shard or row to work on."
        )
    for index, task in enumerate(tasks):
        _json(task, f"task {index} of {code.name}")
    return tasks


def _row(code: StageCode, worked: Result | StageOutputs) -> Result:
    """A task's result as it travels inline: JSON of at most 4 KiB."""
    size = len(_json(worked, f"the result of a task of {code.name}").encode())
    if size > MAX_RESULT_BYTES:
        raise errors.StageFailed(
            f"A result of {code.name} has {size} bytes; at most {MAX_RESULT_BYTES} travel inline.",
            remedy="Write it with context.write_artifact, and let the result name the digest.",
        )
    assert not isinstance(worked, StageOutputs), "is no JSON object"
    return worked


def _json(value: object, what: str) -> str:
    try:
        if not isinstance(value, Mapping):
            raise TypeError(f"it is a {type(value).__name__}")
        return canonical_json(dict(value))
    except (TypeError, ValueError) as error:
        raise errors.StageFailed(f"A JSON object was expected as {what}: {error}.") from error


def _trimmed(summary: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """The summary, without its largest entries where it exceeds what travels: no run is lost for a long list."""
    kept = dict(summary)
    while len(_json(kept, "the summary").encode()) > MAX_SUMMARY_BYTES:
        largest = max(kept, key=lambda name: len(json.dumps(kept[name])))
        context.log.warning("summary_trimmed", field=largest, limit_bytes=MAX_SUMMARY_BYTES)
        del kept[largest]
    return kept


def _given(ref: ArtifactRef | None, what: str) -> ArtifactRef:
    if ref is None:
        raise errors.InvalidSpec(f"The command names no {what}, which its phase reads.", field=what)
    return ref
