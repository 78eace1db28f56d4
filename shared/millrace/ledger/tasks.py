"""Rows of tasks: adding them in bulk, reading and writing single ones, and what is open. Choosing what may start: lanes.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from millrace.ledger.database import Database, Row, Transaction
from millrace.ledger.journal import padded
from millrace.ledger.state import TaskKey, TaskState

_KEY = ("run_id", "stage", "round", "phase", "idx")
_VALUES = (
    "tenant", "service", "resource_class", "priority", "status", "fence", "failures", "losses", "outages", "nonce", "worker",
    "ready_at", "dispatched_at", "limit_key", "limit_max", "cache_key", "result",
)  # fmt: skip
COLUMNS = ", ".join((*_KEY, *_VALUES))
_IS_KEY = " AND ".join(f"{c} = ?" for c in _KEY)
_PAGE = 1000


def load_tasks(tx: Transaction, keys: Iterable[TaskKey]) -> Callable[[], dict[TaskKey, TaskState]]:
    """Ask for tasks by key; keys without a task are left out. Their runs are locked by the caller."""
    wanted = padded(dict.fromkeys(keys))
    if not wanted:
        return dict
    values = ",".join(["(?,?,?,?,?)"] * len(wanted))
    names = [f"wanted_{column}" for column in _KEY]
    rows = tx.ask(  # joined in this order, a look-up a key; for IN (VALUES ...) SQLite reads the whole table
        f"WITH wanted({', '.join(names)}) AS (VALUES {values}) SELECT {COLUMNS} FROM wanted CROSS JOIN tasks"
        f" WHERE {' AND '.join(f'{column} = {name}' for column, name in zip(_KEY, names, strict=True))}",
        [v for key in wanted for v in key],
    )
    return lambda: {task.key: task for task in map(task_of, rows())}


def add_tasks(tx: Transaction, like: TaskState, *, count: int) -> None:
    """Make `count` tasks that differ from `like` by index alone; one statement, however many they are.

    Those that were set aside by a stage that is executed again begin again, under the fence that they had.
    """
    key = like.key
    tx.write(
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
        " INSERT INTO tasks (run_id, stage, round, phase, idx, tenant, service, resource_class, priority, status, fence,"
        " failures, nonce, worker, ready_at, limit_key, limit_max)"
        " SELECT ?, ?, ?, ?, n, ?, ?, ?, ?, ?, 0, 0, '', '', 0, ?, ? FROM numbers WHERE n < ?"
        " ON CONFLICT (run_id, stage, round, phase, idx) DO UPDATE SET status = excluded.status, failures = 0, losses = 0,"
        " outages = 0, nonce = '', worker = '', ready_at = 0, dispatched_at = NULL, result = NULL, cache_key = ''"
        " WHERE tasks.status = 'cancelled'",
        (count, key.run_id, key.stage, key.round, key.phase, like.tenant, like.service, like.resource_class, like.priority,
         like.status, like.limit_key, like.limit_max, count),
    )  # fmt: skip


def save_tasks(tx: Transaction, tasks: Iterable[TaskState]) -> None:
    assignments = ", ".join(f"{c} = ?" for c in _VALUES)
    tx.many(f"UPDATE tasks SET {assignments} WHERE {_IS_KEY}", ((*_task_values(t), *t.key) for t in tasks))


def set_aside(tx: Transaction, run_id: str, stages: Sequence[str]) -> None:
    """Take back all tasks of stages of a run, also what succeeded; `add_tasks` lets them begin again."""
    tx.many(
        "UPDATE tasks SET status = 'cancelled', result = NULL WHERE run_id = ? AND stage = ?",
        ((run_id, stage) for stage in stages),
    )


def open_tasks(tx: Transaction, run_id: str) -> list[TaskState]:
    """Tasks of a run that were dispatched or are running."""
    rows = tx.rows(f"SELECT {COLUMNS} FROM tasks WHERE run_id = ? AND status IN ('dispatched', 'running')", (run_id,))
    return [task_of(r) for r in rows]


def close_tasks(tx: Transaction, run_id: str) -> None:
    """Mark every task of a run that has not ended as cancelled, so that nothing of it is dispatched any more."""
    tx.write(
        "UPDATE tasks SET status = 'cancelled' WHERE run_id = ?"
        " AND status IN ('undecided', 'pending', 'paused', 'subscribed', 'dispatched', 'running')",
        (run_id,),
    )


def next_ready_at(database: Database, *, after: float) -> float | None:
    """When the next task that waits for its time, or the next timer, is due."""
    rows = database.read(
        "SELECT MIN(t) FROM (SELECT MIN(ready_at) AS t FROM tasks WHERE status = 'pending' AND ready_at > 0 AND ready_at > ?"
        " UNION ALL SELECT MIN(due_at) AS t FROM timers) AS due",
        (after,),
    )
    return None if rows[0][0] is None else float(rows[0][0])


def all_open_tasks(database: Database) -> list[TaskState]:
    """Dispatched and running tasks of all runs; as many as capacity is, not as runs are."""
    return [task_of(r) for r in database.read(f"SELECT {COLUMNS} FROM tasks WHERE status IN ('dispatched', 'running')")]


def results_in_order(database: Database, run_id: str, stage: str, round_: int) -> Iterator[dict[str, Any]]:
    """Results of a stage's tasks by index, read in pages."""
    after = -1
    while True:
        rows = database.read(
            "SELECT idx, result FROM tasks WHERE run_id = ? AND stage = ? AND round = ? AND phase = 'work' AND idx > ?"
            f" ORDER BY idx LIMIT {_PAGE}",
            (run_id, stage, round_, after),
        )
        for index, result in rows:
            after = int(index)
            yield json.loads(result)
        if len(rows) < _PAGE:
            return


def task_of(row: Row) -> TaskState:
    key, values = row[:5], dict(zip(_VALUES, row[5:], strict=True))
    result = values.pop("result")
    return TaskState(key=TaskKey(*key), result=None if result is None else json.loads(result), **values)


def _task_values(task: TaskState) -> Sequence[Any]:
    values = [getattr(task, name) for name in _VALUES[:-1]]
    return (*values, None if task.result is None else json.dumps(task.result))
