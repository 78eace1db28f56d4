"""Rows of tasks whose run pauses, resumes, or goes on after its end; each is one statement, however many tasks there are."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.contracts.commands import Phase
from millrace.ledger.database import Database, Transaction
from millrace.ledger.state import TaskState, TaskStatus
from millrace.ledger.tasks import COLUMNS, task_of

_ANEW = (
    "status = ?, cache_key = '', failures = 0, losses = 0, outages = 0, nonce = '', worker = '', ready_at = 0,"
    " dispatched_at = NULL"
)
"""Fences stay, and grow with the next attempt: an old one's word is stale, and its checkpoint is resumed."""


def pause_tasks(tx: Transaction, run_id: str) -> None:
    """Let no task of a locked run start."""
    tx.write("UPDATE tasks SET status = 'paused' WHERE run_id = ? AND status IN ('pending', 'undecided')", (run_id,))


def resume_tasks(tx: Transaction, run_id: str, *, undecided: Iterable[str]) -> None:
    """Let the paused tasks of a locked run start; those of some stages are looked up in the cache first."""
    paused = "WHERE run_id = ? AND status = 'paused'"
    tx.many(f"UPDATE tasks SET status = 'undecided' {paused} AND stage = ?", ((run_id, stage) for stage in undecided))
    tx.write(f"UPDATE tasks SET status = 'pending' {paused}", (run_id,))


def revive_tasks(
    tx: Transaction, run_id: str, stage: str, round_: int, phase: Phase, *, status: TaskStatus
) -> None:  # fmt: skip
    """Let the tasks of a phase begin again that did not succeed; the one of a plan or a merge in any case."""
    kept = " AND status <> 'succeeded'" if phase == "work" else ""
    tx.write(
        f"UPDATE tasks SET {_ANEW} WHERE run_id = ? AND stage = ? AND round = ? AND phase = ?{kept}",
        (status, run_id, stage, round_, phase),
    )


def running_while_paused(database: Database) -> list[TaskState]:
    """Tasks of paused runs that somebody still works on."""
    columns = ", ".join(f"t.{c}" for c in COLUMNS.split(", "))
    rows = database.read(
        f"SELECT {columns} FROM tasks t JOIN runs r ON r.run_id = t.run_id"
        " WHERE t.status IN ('dispatched', 'running') AND r.status = 'paused'"
    )
    return [task_of(row) for row in rows]
