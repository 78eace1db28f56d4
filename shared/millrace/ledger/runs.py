"""Rows of runs and of their stages, as values."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.events import ErrorInfo, StageOutputs
from millrace.contracts.pipelines import Graph
from millrace.ledger.database import Row, Transaction
from millrace.ledger.journal import marks, padded
from millrace.ledger.state import RunState, StageState

C = TypeVar("C", bound=Contract)

STAGE_COLUMNS = (
    "name, position, status, phase, round, num_tasks, num_done, attempts, num_cached, num_redone, plan, outputs, error,"
    " started_at, finished_at"
)
_RUN = (
    "run_id, tenant, status, priority, submitted_at, started_at, finished_at, stage, error, seq, trace, cache,"
    " content_digest"
)
_NUM_GRAPHS = 512
"""Parsed graphs kept. A graph never changes, and runs of one pipeline with equal parameters share it."""

_graphs: OrderedDict[str, Graph] = OrderedDict()
_graphs_lock = threading.Lock()


def lock_runs(
    tx: Transaction, run_ids: Iterable[str], *, skip_held: bool = False
) -> Callable[[], dict[str, RunState]]:  # fmt: skip
    """Ask for runs by id and lock them, in one order so that two conductors never wait for each other.

    Ids without a run are left out; with `skip_held` also runs that another transaction has.
    """
    wanted = padded(sorted(set(run_ids)))
    if not wanted:
        return dict
    where = f"run_id IN ({marks(wanted)})"
    lock = f"{tx.lock} SKIP LOCKED" if tx.lock and skip_held else tx.lock
    runs = tx.ask(f"SELECT {_RUN} FROM runs WHERE {where} ORDER BY run_id{lock}", wanted)
    stages = tx.ask(f"SELECT run_id, {STAGE_COLUMNS} FROM stages WHERE {where} ORDER BY run_id, position", wanted)
    return lambda: _runs_of(tx, runs(), stages())


def save_runs(tx: Transaction, changes: Iterable[tuple[RunState, RunState]]) -> None:
    """Write what differs between (as read, as it is now): headers, and stages."""
    pairs = list(changes)
    headers = [
        (r.status, r.started_at, r.finished_at, r.stage, encode(r.error), r.seq, r.run_id)
        for before, r in pairs
        if r != before
    ]
    tx.many(
        "UPDATE runs SET status = ?, started_at = ?, finished_at = ?, stage = ?, error = ?, seq = ? WHERE run_id = ?",
        headers,
    )
    stages = [
        (after.run_id, stage)
        for before, after in pairs
        for name, stage in after.stages.items()
        if before.stages.get(name) != stage
    ]
    save_stages(tx, stages)


def save_stages(tx: Transaction, stages: Iterable[tuple[str, StageState]]) -> None:
    """Write (run id, stage) as they are, new or not."""
    updates = ", ".join(f"{c} = excluded.{c}" for c in STAGE_COLUMNS.split(", ")[1:])
    tx.many(
        f"INSERT INTO stages (run_id, {STAGE_COLUMNS}) VALUES ({','.join('?' * 16)})"
        f" ON CONFLICT (run_id, name) DO UPDATE SET {updates}",
        ((run_id, *_stage_values(stage)) for run_id, stage in stages),
    )


def stage_of(row: Sequence[Any]) -> StageState:
    """A row of STAGE_COLUMNS as a value."""
    (name, position, status, phase, round_, num_tasks, num_done, attempts, num_cached, num_redone, plan, outputs, error,
     started, finished) = row  # fmt: skip
    return StageState(
        name=name, position=position, status=status, phase=phase, round=round_, num_tasks=num_tasks, num_done=num_done,
        attempts=attempts, num_cached=num_cached, num_redone=num_redone, plan=decode(ArtifactRef, plan),
        outputs=decode(StageOutputs, outputs), error=decode(ErrorInfo, error), started_at=started, finished_at=finished,
    )  # fmt: skip


def encode(value: Contract | None) -> str | None:
    return None if value is None else value.model_dump_json()


def decode(cls: type[C], text: str | None) -> C | None:
    return None if text is None else cls.received_json(text)


def _runs_of(tx: Transaction, runs: Sequence[Row], stages: Iterable[Row]) -> dict[str, RunState]:
    graphs = _graphs_of(tx, {str(row[-1]): str(row[0]) for row in runs})
    stages_of: dict[str, dict[str, StageState]] = {str(row[0]): {} for row in runs}
    for run_id, *rest in stages:
        if (found := stages_of.get(str(run_id))) is not None:
            stage = stage_of(rest)
            found[stage.name] = stage
    return {str(row[0]): _run(row, graphs[str(row[-1])], stages_of[str(row[0])]) for row in runs}


def _graphs_of(tx: Transaction, run_of: Mapping[str, str]) -> dict[str, Graph]:
    """Graphs by content digest, given a run that has each; read and parsed once in this process."""
    graphs = {}
    for digest, run_id in run_of.items():
        with _graphs_lock:
            graph = _graphs.get(digest)
        if graph is None:
            graph = Graph.received_json(tx.rows("SELECT graph FROM runs WHERE run_id = ?", (run_id,))[0][0])
        with _graphs_lock:
            _graphs[digest] = graphs[digest] = graph
            _graphs.move_to_end(digest)
            while len(_graphs) > _NUM_GRAPHS:
                _graphs.popitem(last=False)
    return graphs


def _run(row: Row, graph: Graph, stages: Mapping[str, StageState]) -> RunState:
    (run_id, tenant, status, priority, submitted_at, started_at, finished_at, stage, error, seq, trace, cache, _) = row
    return RunState(
        run_id=run_id, tenant=tenant, graph=graph, status=status, priority=priority, submitted_at=submitted_at,
        started_at=started_at, finished_at=finished_at, stage=stage, error=decode(ErrorInfo, error), stages=stages,
        seq=seq, trace=json.loads(trace), cache=cache,
    )  # fmt: skip


def _stage_values(stage: StageState) -> tuple[Any, ...]:
    return (
        stage.name, stage.position, stage.status, stage.phase, stage.round, stage.num_tasks, stage.num_done, stage.attempts,
        stage.num_cached, stage.num_redone, encode(stage.plan), encode(stage.outputs), encode(stage.error),
        stage.started_at, stage.finished_at,
    )  # fmt: skip
