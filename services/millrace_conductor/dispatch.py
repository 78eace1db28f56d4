"""Dispatch: pending tasks become commands, only as many as announced capacity takes, highest priority first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.ids import attempt_id
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.ledger import journal
from millrace.ledger.database import Transaction
from millrace.ledger.state import RunState, TaskState
from millrace.store import Store
from millrace.store.pages import write_pages
from millrace_conductor.machine import graph_stage

IN_FLIGHT_PER_SLOT = 2
"""One task working and one waiting beside it: a slot never idles between two, and the broker never holds a flood."""

StoreOf = Callable[[str], Store]


def dispatch(tx: Transaction, stores: StoreOf, *, conductor: str, now: float, lease_s: float) -> int:
    """Turn pending tasks into commands in the outbox; return how many.

    Args:
        tx: The transaction that decides; slots of a class are counted and taken in it.
        stores: A tenant's store, for the index of results that a merge reads.
        conductor: Whose relay sends them.
        now: Seconds.
        lease_s: A worker not heard of for so long announces no capacity.
    """
    workers = journal.live_workers(tx, seen_after=now - lease_s)
    runs: dict[str, RunState] = {}
    num_sent = 0
    for service, resource_class in journal.pending_classes(tx, now=now):
        slots = sum(classes.get(resource_class, 0) for _, services, classes in workers if service in services)
        free = slots * IN_FLIGHT_PER_SLOT - journal.num_open(tx, service, resource_class)
        if free <= 0:
            continue
        for task in journal.pending_tasks(tx, service, resource_class, now=now, limit=free):
            run = runs.get(task.key.run_id) or journal.load_run(tx, task.key.run_id)
            if run is None:
                continue
            runs[run.run_id] = run
            sent = replace(task, status="dispatched", fence=task.fence + 1, dispatched_at=now)
            command = build_command(tx, run, sent, stores)
            journal.save_task(tx, sent)
            journal.count_attempt(tx, run.run_id, task.key.stage)
            journal.put_outbox(tx, "command", command.to_json(), owner=conductor, now=now)
            num_sent += 1
    return num_sent


def build_command(tx: Transaction, run: RunState, task: TaskState, stores: StoreOf) -> ExecuteAttempt:
    """Write the command of a task's next attempt: everything by reference."""
    spec, stage, key = graph_stage(run.graph, task.key.stage), run.stages[task.key.stage], task.key
    results = None
    if key.phase == "merge":
        rows = journal.results_in_order(tx, run.run_id, key.stage, key.round)
        results = write_pages(stores(run.tenant), "plan", rows)
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
        trace=_trace(tx, run.run_id),
    )


def _inputs(tx: Transaction, run: RunState, spec: GraphStage) -> dict[str, ArtifactRef | tuple[ArtifactRef, ...]]:
    inputs: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = {}
    for port, bound in spec.inputs.items():
        if isinstance(bound, tuple):
            inputs[port] = tuple(artifact for b in bound for artifact in _artifacts(run, b))
        else:
            inputs[port] = _artifact(run, bound)
    if spec.endpoint and spec.effect == "none" and "current" not in inputs:
        current = _current_model(tx, run.tenant, spec.endpoint)
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


def _current_model(tx: Transaction, tenant: str, endpoint: str) -> ArtifactRef | None:
    rows = tx.rows("SELECT model FROM endpoints WHERE tenant = ? AND name = ?", (tenant, endpoint))
    return ArtifactRef.model_validate_json(rows[0][0]) if rows and rows[0][0] else None


def _trace(tx: Transaction, run_id: str) -> dict[str, str]:
    rows = tx.rows("SELECT trace FROM runs WHERE run_id = ?", (run_id,))
    return dict(json.loads(rows[0][0])) if rows else {}
