"""Reading and writing the run journal inside a transaction: events, run state, tasks, inbox, outbox, timers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.events import ErrorInfo, Event, StageOutputs
from millrace.contracts.ids import new_id
from millrace.contracts.pipelines import Graph
from millrace.ledger.database import Database, Row, Transaction
from millrace.ledger.state import RunState, StageState, TaskKey, TaskState

C = TypeVar("C", bound=Contract)
OutboxKind = Literal["command", "event", "signal", "ref"]

_RUN = "run_id, tenant, graph, status, priority, submitted_at, started_at, finished_at, stage, error"
_STAGE = (
    "name, position, status, phase, round, num_tasks, num_done, attempts, plan, outputs, error, started_at, finished_at"
)
_TASK = (
    "run_id, stage, round, phase, idx, tenant, service, resource_class, priority, status, fence, failures, nonce, worker,"
    " ready_at, dispatched_at, result"
)


# --- events ----------------------------------------------------------------------------------------------------------


def is_seen(tx: Transaction, event_id: str) -> bool:
    return bool(tx.rows("SELECT 1 FROM events WHERE event_id = ?", (event_id,)))


def append_event(tx: Transaction, event: Event, *, refused: str = "") -> int:
    """Number the event within its subject and journal it; return the number. The run's row must be locked by the caller."""
    numbered = tx.rows("UPDATE runs SET seq = seq + 1 WHERE run_id = ? RETURNING seq", (event.subject,))
    if numbered:
        seq = int(numbered[0][0])
    else:  # about an endpoint or an unknown run: rare, so a query instead of a counter
        seq = int(tx.rows("SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE subject = ?", (event.subject,))[0][0])
    tx.run(
        "INSERT INTO events (event_id, tenant, subject, seq, type, source, time, data, refused) VALUES (?,?,?,?,?,?,?,?,?)",
        (event.id, event.tenant, event.subject, seq, event.type, event.source, event.time.timestamp(),
         json.dumps(event.data), refused),
    )  # fmt: skip
    return seq


# --- runs and stages -------------------------------------------------------------------------------------------------


def load_run(tx: Transaction, run_id: str) -> RunState | None:
    """Lock a run and return its state, or None if there is no such run."""
    found = tx.rows(f"SELECT {_RUN} FROM runs WHERE run_id = ?{tx.lock}", (run_id,))
    if not found:
        return None
    stages = tx.rows(f"SELECT {_STAGE} FROM stages WHERE run_id = ? ORDER BY position", (run_id,))
    (run_id, tenant, graph, status, priority, submitted_at, started_at, finished_at, stage, error) = found[0]
    return RunState(
        run_id=run_id, tenant=tenant, graph=Graph.model_validate_json(graph), status=status, priority=priority,
        submitted_at=submitted_at, started_at=started_at, finished_at=finished_at, stage=stage,
        error=_decode(ErrorInfo, error), stages={s.name: s for s in map(_stage, stages)},
    )  # fmt: skip


def save_run(tx: Transaction, before: RunState, after: RunState) -> None:
    """Write what changed of a run's header and of its stages."""
    tx.run(
        "UPDATE runs SET status = ?, started_at = ?, finished_at = ?, stage = ?, error = ? WHERE run_id = ?",
        (after.status, after.started_at, after.finished_at, after.stage, _encode(after.error), after.run_id),
    )
    for name, stage in after.stages.items():
        if before.stages.get(name) != stage:
            save_stage(tx, after.run_id, stage)


def save_stage(tx: Transaction, run_id: str, stage: StageState) -> None:
    values = (
        stage.name, stage.position, stage.status, stage.phase, stage.round, stage.num_tasks, stage.num_done, stage.attempts,
        _encode(stage.plan), _encode(stage.outputs), _encode(stage.error), stage.started_at, stage.finished_at,
    )  # fmt: skip
    updates = ", ".join(f"{c} = excluded.{c}" for c in _STAGE.split(", ")[1:])
    tx.run(
        f"INSERT INTO stages (run_id, {_STAGE}) VALUES ({','.join('?' * 14)})"
        f" ON CONFLICT (run_id, name) DO UPDATE SET {updates}",
        (run_id, *values),
    )


def count_attempt(tx: Transaction, run_id: str, stage: str) -> None:
    tx.run("UPDATE stages SET attempts = attempts + 1 WHERE run_id = ? AND name = ?", (run_id, stage))


# --- tasks -----------------------------------------------------------------------------------------------------------


def load_task(tx: Transaction, key: TaskKey) -> TaskState | None:
    found = tx.rows(
        f"SELECT {_TASK} FROM tasks WHERE run_id = ? AND stage = ? AND round = ? AND phase = ? AND idx = ?", tuple(key)
    )
    return _task(found[0]) if found else None


def add_tasks(tx: Transaction, tasks: Iterable[TaskState]) -> None:
    tx.many(
        f"INSERT INTO tasks ({_TASK}) VALUES ({','.join('?' * 17)}) ON CONFLICT (run_id, stage, round, phase, idx) DO NOTHING",
        ((*t.key, *_task_values(t)) for t in tasks),
    )


def save_task(tx: Transaction, task: TaskState) -> None:
    columns = _TASK.split(", ", 5)[5].replace("\n", "")
    assignments = ", ".join(f"{c.strip()} = ?" for c in columns.split(","))
    tx.run(
        f"UPDATE tasks SET {assignments} WHERE run_id = ? AND stage = ? AND round = ? AND phase = ? AND idx = ?",
        (*_task_values(task), *task.key),
    )


def open_tasks(tx: Transaction, run_id: str, *, stage: str = "") -> list[TaskState]:
    """Tasks of a run that were dispatched or are running."""
    where, values = ("AND stage = ?", (run_id, stage)) if stage else ("", (run_id,))
    rows = tx.rows(
        f"SELECT {_TASK} FROM tasks WHERE run_id = ? {where} AND status IN ('dispatched', 'running')", values
    )
    return [_task(r) for r in rows]


def close_tasks(tx: Transaction, run_id: str) -> None:
    """Mark every open task of a run as cancelled, so that nothing of it is dispatched any more."""
    tx.run(
        "UPDATE tasks SET status = 'cancelled' WHERE run_id = ? AND status IN ('pending', 'dispatched', 'running')",
        (run_id,),
    )


def pending_tasks(tx: Transaction, service: str, resource_class: str, *, now: float, limit: int) -> list[TaskState]:
    """Tasks that may start now, highest priority first, then oldest run first; locked against other conductors."""
    lock = f"{tx.lock} SKIP LOCKED" if tx.lock else ""
    rows = tx.rows(
        f"SELECT {_TASK} FROM tasks WHERE status = 'pending' AND service = ? AND resource_class = ? AND ready_at <= ?"
        f" ORDER BY priority DESC, run_id, stage, round, phase, idx LIMIT ?{lock}",
        (service, resource_class, now, limit),
    )
    return [_task(r) for r in rows]


def pending_classes(tx: Transaction, *, now: float) -> list[tuple[str, str]]:
    """Services and resource classes that have something to start."""
    rows = tx.rows(
        "SELECT DISTINCT service, resource_class FROM tasks WHERE status = 'pending' AND ready_at <= ?", (now,)
    )
    return [(str(s), str(c)) for s, c in rows]


def next_ready_at(database: Database) -> float | None:
    """When the next pending task or timer is due."""
    rows = database.read(
        "SELECT MIN(t) FROM (SELECT MIN(ready_at) AS t FROM tasks WHERE status = 'pending'"
        " UNION ALL SELECT MIN(due_at) AS t FROM timers) AS due"
    )
    return None if rows[0][0] is None else float(rows[0][0])


def num_open(tx: Transaction, service: str, resource_class: str) -> int:
    rows = tx.rows(
        "SELECT COUNT(*) FROM tasks WHERE status IN ('dispatched', 'running') AND service = ? AND resource_class = ?",
        (service, resource_class),
    )
    return int(rows[0][0])


def all_open_tasks(database: Database) -> list[TaskState]:
    return [_task(r) for r in database.read(f"SELECT {_TASK} FROM tasks WHERE status IN ('dispatched', 'running')")]


def results_in_order(tx: Transaction, run_id: str, stage: str, round_: int) -> Iterator[dict[str, Any]]:
    """Results of a stage's tasks by index, read in pages."""
    after = -1
    while True:
        rows = tx.rows(
            "SELECT idx, result FROM tasks WHERE run_id = ? AND stage = ? AND round = ? AND phase = 'work' AND idx > ?"
            " ORDER BY idx LIMIT 1000",
            (run_id, stage, round_, after),
        )
        if not rows:
            return
        for index, result in rows:
            after = int(index)
            yield json.loads(result)


# --- inbox, outbox, timers, workers ----------------------------------------------------------------------------------


def take_inbox(tx: Transaction, limit: int) -> list[Event]:
    rows = tx.rows(
        f"DELETE FROM inbox WHERE event_id IN (SELECT event_id FROM inbox ORDER BY event_id LIMIT ?{_skip(tx)})"
        " RETURNING event_id, event",
        (limit,),
    )
    return [Event.model_validate_json(body) for _, body in sorted(rows)]


def put_outbox(tx: Transaction, kind: OutboxKind, body: str, *, owner: str, now: float) -> str:
    """Queue a message for the relay of `owner`; ids sort in the order of writing."""
    message_id = new_id("out")
    tx.run(
        "INSERT INTO outbox (id, kind, body, owner, created_at) VALUES (?,?,?,?,?)",
        (message_id, kind, body, owner, now),
    )
    return message_id


def read_outbox(
    database: Database, *, owner: str, stale_before: float, limit: int
) -> list[tuple[str, OutboxKind, str]]:
    """Messages to relay: one's own, and those that another conductor left lying."""
    rows = database.read(
        "SELECT id, kind, body FROM outbox WHERE owner = ? OR created_at < ? ORDER BY id LIMIT ?",
        (owner, stale_before, limit),
    )
    return [(str(i), k, str(b)) for i, k, b in rows]


def mark_sent(tx: Transaction, ids: Sequence[str]) -> None:
    tx.many("DELETE FROM outbox WHERE id = ?", ((i,) for i in ids))


def set_timer(tx: Transaction, timer_id: str, event: Event, *, run_id: str, due_at: float) -> None:
    tx.run(
        "INSERT INTO timers (timer_id, run_id, due_at, event) VALUES (?,?,?,?) ON CONFLICT (timer_id) DO NOTHING",
        (timer_id, run_id, due_at, event.to_json()),
    )


def take_due_timers(tx: Transaction, *, now: float, limit: int) -> list[Event]:
    rows = tx.rows(
        f"DELETE FROM timers WHERE timer_id IN (SELECT timer_id FROM timers WHERE due_at <= ? LIMIT ?{_skip(tx)})"
        " RETURNING event",
        (now, limit),
    )
    return [Event.model_validate_json(r[0]) for r in rows]


def drop_timers(tx: Transaction, run_id: str) -> None:
    tx.run("DELETE FROM timers WHERE run_id = ?", (run_id,))


def save_worker(
    tx: Transaction, worker_id: str, *, host: str, services: Sequence[str], classes: dict[str, int], now: float
) -> None:
    tx.run(
        "INSERT INTO workers (worker_id, host, services, classes, seen_at) VALUES (?,?,?,?,?) ON CONFLICT (worker_id)"
        " DO UPDATE SET services = excluded.services, classes = excluded.classes, seen_at = excluded.seen_at",
        (worker_id, host, json.dumps(sorted(services)), json.dumps(classes), now),
    )


def live_workers(tx: Transaction, *, seen_after: float) -> list[tuple[str, list[str], dict[str, int]]]:
    """(worker id, services, slots by class) of workers heard of lately."""
    rows = tx.rows("SELECT worker_id, services, classes FROM workers WHERE seen_at > ?", (seen_after,))
    return [(str(w), json.loads(s), json.loads(c)) for w, s, c in rows]


def forget_workers(tx: Transaction, *, seen_before: float) -> None:
    tx.run("DELETE FROM workers WHERE seen_at < ?", (seen_before,))


# --- encoding --------------------------------------------------------------------------------------------------------


def to_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _skip(tx: Transaction) -> str:
    return f"{tx.lock} SKIP LOCKED" if tx.lock else ""


def _encode(value: Contract | None) -> str | None:
    return None if value is None else value.model_dump_json()


def _decode(cls: type[C], text: str | None) -> C | None:
    return None if text is None else cls.model_validate_json(text)


def _stage(row: Row) -> StageState:
    (name, position, status, phase, round_, num_tasks, num_done, attempts, plan, outputs, error, started, finished) = (
        row
    )
    return StageState(
        name=name, position=position, status=status, phase=phase, round=round_, num_tasks=num_tasks, num_done=num_done,
        attempts=attempts, plan=_decode(ArtifactRef, plan), outputs=_decode(StageOutputs, outputs),
        error=_decode(ErrorInfo, error), started_at=started, finished_at=finished,
    )  # fmt: skip


def _task(row: Row) -> TaskState:
    (run_id, stage, round_, phase, index, tenant, service, resource_class, priority, status, fence, failures, nonce, worker,
     ready_at, dispatched_at, result) = row  # fmt: skip
    return TaskState(
        key=TaskKey(run_id, stage, round_, phase, index), tenant=tenant, service=service, resource_class=resource_class,
        priority=priority, status=status, fence=fence, failures=failures, nonce=nonce, worker=worker, ready_at=ready_at,
        dispatched_at=dispatched_at, result=None if result is None else json.loads(result),
    )  # fmt: skip


def _task_values(task: TaskState) -> tuple[Any, ...]:
    return (
        task.tenant, task.service, task.resource_class, task.priority, task.status, task.fence, task.failures, task.nonce,
        task.worker, task.ready_at, task.dispatched_at, None if task.result is None else json.dumps(task.result),
    )  # fmt: skip
