"""Rows of dead letters: tasks that were set aside after their last attempt, with the evidence."""

from __future__ import annotations

import json
from typing import Any

from millrace.contracts.events import TaskDied
from millrace.contracts.ids import attempt_id, new_id
from millrace.contracts.views import DeadLetterView
from millrace.ledger.database import Database, Transaction
from millrace.ledger.journal import to_time
from millrace.ledger.state import TaskKey

MAX_WORKERS = 10


def add_dead_letter(tx: Transaction, tenant: str, died: TaskDied, *, fence: int, now: float) -> None:
    """Set a task aside. A run that goes on later may set it aside again, as another letter."""
    evidence = died.model_dump(mode="json", include={"phase", "round", "index", "error", "workers"})
    tx.run(
        "INSERT INTO dead_letters (id, tenant, run_id, stage, reason, evidence, died_at) VALUES (?,?,?,?,?,?,?)",
        (
            new_id("dead"),
            tenant,
            died.run_id,
            died.stage,
            died.reason,
            json.dumps({**evidence, "attempts": fence}),
            now,
        ),
    )


def latest_workers(tx: Transaction, key: TaskKey) -> list[str]:
    """Who held the latest failed attempts of a task, newest first, at most ten; the journal of its run is searched."""
    any_attempt = attempt_id(key.run_id, key.stage, f"{key.phase}{key.round}", key.idx, 0).removesuffix("0")
    rows = tx.rows(
        "SELECT data FROM events WHERE subject = ? AND type = 'attempt.failed.v1' AND refused = ''"
        " AND data LIKE ? ESCAPE '!' ORDER BY seq DESC LIMIT ?",
        (key.run_id, f'%"attempt_id": "{_escaped(any_attempt)}%', MAX_WORKERS),
    )
    return [str(json.loads(data)["holder"]["worker"]) for (data,) in rows]


def list_dead_letters(database: Database, tenant: str, *, run_id: str = "", limit: int = 50) -> list[DeadLetterView]:
    """Dead letters of one run or of all, newest first."""
    where, values = ["tenant = ?"], list[Any]([tenant])
    if run_id:
        where.append("run_id = ?")
        values.append(run_id)
    rows = database.read(
        f"SELECT id, run_id, stage, reason, evidence, died_at FROM dead_letters WHERE {' AND '.join(where)}"
        " ORDER BY id DESC LIMIT ?",
        [*values, limit],
    )
    return [
        DeadLetterView(
            id=id_, run_id=run, stage=stage, reason=reason, died_at=to_time(died_at),
            **json.loads(evidence),
        )
        for id_, run, stage, reason, evidence, died_at in rows
    ]  # fmt: skip


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
