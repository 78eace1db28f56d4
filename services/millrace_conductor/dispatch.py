"""Dispatch: pending tasks become commands, only as many as announced capacity takes, highest priority first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import ErrorInfo
from millrace.contracts.ids import attempt_id
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.ledger import endpoints, tasks
from millrace.ledger.database import Transaction
from millrace.ledger.state import FINAL_RUN, RunState, TaskKey, TaskState
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import apply
from millrace_conductor.lifecycle import fail_stage, graph_stage, with_stage

log = structlog.get_logger()

IN_FLIGHT_PER_SLOT = 2
"""One task working and one waiting beside it: a slot never idles between two, and the broker never holds a flood."""

Class = tuple[str, str]
"""A service and a resource class: what names a command queue."""


def dispatch(
    folding: Folding, classes: Iterable[Class], *, slots: Mapping[Class, int], indices: Mapping[TaskKey, ArtifactRef]
) -> None:
    """Turn pending tasks into commands in the outbox.

    Conductors that dispatch at one instant do not see each other's commands: the broker may then hold a few more.

    Args:
        folding: The transaction in which slots are counted and taken; nothing in it waits for another conductor.
        classes: Where a slot may be free or a task may be new.
        slots: Announced slots.
        indices: Of the results that a merge reads. A merge without one is left pending, and named in the outcome.
    """
    offered = sorted(c for c in set(classes) if slots.get(c, 0) > 0)
    if not offered:
        return
    folding.write_tasks()
    num_open = tasks.count_open(folding.tx)
    for service, resource_class in offered:
        free = slots[service, resource_class] * IN_FLIGHT_PER_SLOT - num_open.get((service, resource_class), 0)
        if free <= 0:
            continue
        pending = tasks.pending_tasks(folding.tx, service, resource_class, now=folding.now, limit=free)
        folding.lock(task.key.run_id for task in pending)
        for task in pending:
            if task.key.phase == "merge" and task.key not in indices:
                folding.outcome.unindexed.add(task.key)
            else:
                _dispatch_one(folding, task, indices)


def _dispatch_one(folding: Folding, task: TaskState, indices: Mapping[TaskKey, ArtifactRef]) -> None:
    run = folding.runs[task.key.run_id]
    if run.status in FINAL_RUN:  # ended a moment ago, by a command of its own that could not be written
        return
    sent = replace(task, status="dispatched", fence=task.fence + 1, dispatched_at=folding.now)
    try:
        command = build_command(folding.tx, run, sent, results=indices.get(task.key))
    except Exception as error:  # one run's fault must not hold up all others
        log.exception("command_not_written", run=run.run_id, stage=task.key.stage)
        fault = ErrorInfo(
            code="internal",
            message=f"The command of stage {task.key.stage!r} could not be written: {type(error).__name__}: {error}",
            remedy="This is a fault of Millrace: please report it, with the conductor's log.",
        )
        failed = replace(task, status="failed")
        apply(folding, run, fail_stage(run, task.key.stage, fault, folding.now, task=failed), task=task)
        return
    stage = run.stages[task.key.stage]
    folding.save_task(sent)
    folding.save_run(with_stage(run, replace(stage, attempts=stage.attempts + 1)))
    folding.send("command", command)


def build_command(
    tx: Transaction, run: RunState, task: TaskState, *, results: ArtifactRef | None = None
) -> ExecuteAttempt:
    """Write the command of a task's next attempt: everything by reference."""
    spec, stage, key = graph_stage(run.graph, task.key.stage), run.stages[task.key.stage], task.key
    return ExecuteAttempt(
        tenant=run.tenant,
        run_id=run.run_id,
        stage=spec.name,
        kind=spec.kind,
        service=spec.service,
        resource_class=spec.resources.resource_class,
        phase=key.phase,
        index=key.idx,
        round=key.round,
        attempt_id=attempt_id(run.run_id, spec.name, f"{key.phase}{key.round}", key.idx, task.fence),
        fence=task.fence,
        config=spec.config,
        inputs=_inputs(tx, run, spec),
        plan=stage.plan,
        results=results,
        function=spec.function.code if spec.function else None,
        foreach=spec.foreach,
        outputs=spec.outputs,
        env=spec.env,
        seed=run.graph.seed,
        cpu=spec.resources.cpu,
        timeout_s=spec.timeout_s,
        trace=dict(run.trace),
    )


def _inputs(tx: Transaction, run: RunState, spec: GraphStage) -> dict[str, ArtifactRef | tuple[ArtifactRef, ...]]:
    inputs: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = {}
    for port, bound in spec.inputs.items():
        if isinstance(bound, tuple):
            inputs[port] = tuple(artifact for b in bound for artifact in _artifacts(run, b))
        else:
            inputs[port] = _artifact(run, bound)
    if spec.endpoint and spec.effect == "none" and "current" not in inputs:
        current = endpoints.current_model(tx, run.tenant, spec.endpoint)
        if current is not None:
            inputs["current"] = current
    return inputs


def _artifacts(run: RunState, binding: Binding) -> tuple[ArtifactRef, ...]:
    """What a binding of a list stands for: one artifact, or all that a mapped stage made."""
    outputs = run.stages[binding.stage].outputs if binding.stage else None
    made = outputs.lists.get(binding.port) if outputs is not None else None
    return made if made is not None else (_artifact(run, binding),)


def _artifact(run: RunState, binding: Binding) -> ArtifactRef:
    if binding.artifact is not None:
        return binding.artifact
    outputs = run.stages[binding.stage].outputs
    assert outputs is not None, f"{binding.stage} has no outputs yet"
    return outputs.artifacts[binding.port]
