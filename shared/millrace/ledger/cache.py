"""Rows of the cache: answers by key, what a key was made of, who computes it just now, and what each run found.

A key is `<base>.<index>`: the base is the digest of everything that an answer depends on but the task's index, so that a
stage of 100,000 tasks has one row of fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from millrace.ledger.database import Database, Row, Transaction
from millrace.ledger.journal import marks
from millrace.ledger.state import TaskKey, TaskState
from millrace.ledger.tasks import COLUMNS, task_of

_TASK = "run_id, stage, round, phase, idx"
_IS_TASK = "run_id = ? AND stage = ? AND round = ? AND phase = ? AND idx = ?"
_USED_S = 3600.0
"""How often it is noted that an answer was used: collecting garbage asks for days, not seconds."""


class Answer(NamedTuple):
    """What an attempt answered: fields of AttemptSucceeded, and the run that computed it."""

    fields: dict[str, Any]
    run_id: str
    used_at: float


class Base(NamedTuple):
    """What answers of one phase of a stage depend on, by dotted path, as text."""

    base: str
    tenant: str
    kind: str
    phase: str
    fields: Mapping[str, str]


class Use(NamedTuple):
    """What a run found when it looked up one phase of a stage."""

    run_id: str
    stage: str
    phase: str
    round: int
    tenant: str
    pipeline: str
    base: str
    reason: str = ""
    num_hits: int = 0
    num_shared: int = 0
    num_misses: int = 0
    from_run: str = ""


# --- what is to be looked up -----------------------------------------------------------------------------------------


def undecided_tasks(tx: Transaction, service: str, resource_class: str, *, limit: int) -> Callable[[], list[TaskState]]:
    """Ask for tasks to look up, most urgent first, of runs not paused; locked with their runs, unless others hold those."""
    columns = ", ".join(f"t.{c}" for c in COLUMNS.split(", "))
    lock = f"{tx.lock} OF r, t SKIP LOCKED" if tx.lock else ""
    rows = tx.ask(
        f"SELECT {columns} FROM tasks t JOIN runs r ON r.run_id = t.run_id WHERE t.status = 'undecided' AND t.service = ?"
        " AND t.resource_class = ? AND r.status <> 'paused'"
        f" ORDER BY t.priority DESC, t.run_id, t.stage, t.round, t.phase, t.idx LIMIT ?{lock}",
        (service, resource_class, limit),
    )
    return lambda: [task_of(row) for row in rows()]


# --- answers ---------------------------------------------------------------------------------------------------------


def answers(tx: Transaction, keys: Sequence[str]) -> dict[str, Answer]:
    """Answers by key; keys without one are left out."""
    if not keys:
        return {}
    rows = tx.rows(f"SELECT cache_key, answer, run_id, used_at FROM cache WHERE cache_key IN ({marks(keys)})", keys)
    return {str(key): Answer(json.loads(answer), str(run_id), float(at)) for key, answer, run_id, at in rows}


def put_answers(tx: Transaction, found: Mapping[str, tuple[str, Mapping[str, Any], str]], *, now: float) -> None:
    """Keep answers: key to (tenant, answer, run id). A newer one takes the place of what is there."""
    tx.many(
        "INSERT INTO cache (cache_key, base, tenant, answer, run_id, created_at, used_at) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (cache_key) DO UPDATE SET answer = excluded.answer, run_id = excluded.run_id,"
        " created_at = excluded.created_at, used_at = excluded.used_at",
        (
            (key, key.partition(".")[0], tenant, json.dumps(answer), run_id, now, now)
            for key, (tenant, answer, run_id) in sorted(found.items())
        ),
    )


def note_used(tx: Transaction, found: Mapping[str, Answer], *, now: float) -> None:
    """Note that answers were used, unless that was noted lately."""
    stale = sorted(key for key, answer in found.items() if now - answer.used_at > _USED_S)
    tx.many("UPDATE cache SET used_at = ? WHERE cache_key = ?", ((now, key) for key in stale))


def drop_answers(tx: Transaction, keys: Iterable[str]) -> None:
    tx.many("DELETE FROM cache WHERE cache_key = ?", ((key,) for key in sorted(keys)))


def drop_answers_naming(tx: Transaction, digest: str, *, run_id: str, stage: str) -> int:
    """Forget every answer to what a stage of a run asked that names an artifact; return how many."""
    return tx.run(
        "DELETE FROM cache WHERE base IN (SELECT base FROM cache_uses WHERE run_id = ? AND stage = ?) AND answer LIKE ?",
        (run_id, stage, f"%{digest}%"),
    )


def put_bases(tx: Transaction, bases: Iterable[Base], *, now: float) -> None:
    tx.many(
        "INSERT INTO cache_bases (base, tenant, kind, phase, fields, created_at) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (base) DO NOTHING",
        (
            (b.base, b.tenant, b.kind, b.phase, json.dumps(dict(b.fields)), now)
            for b in sorted(bases, key=lambda b: b.base)
        ),
    )


def put_uses(tx: Transaction, uses: Iterable[Use]) -> None:
    """Add to what a run found; the base of the latest look stands."""
    tx.many(
        f"INSERT INTO cache_uses ({', '.join(Use._fields)}) VALUES ({marks(Use._fields)})"
        " ON CONFLICT (run_id, stage, phase, round) DO UPDATE SET base = excluded.base, reason = excluded.reason,"
        " num_hits = cache_uses.num_hits + excluded.num_hits, num_shared = cache_uses.num_shared + excluded.num_shared,"
        " num_misses = cache_uses.num_misses + excluded.num_misses,"
        " from_run = CASE WHEN excluded.from_run = '' THEN cache_uses.from_run ELSE excluded.from_run END",
        sorted(uses),
    )


# --- computations ----------------------------------------------------------------------------------------------------


def lead(tx: Transaction, wishes: Iterable[tuple[str, TaskKey]], *, now: float) -> dict[str, TaskKey]:
    """Let each task compute its key, unless another does; return who computes, locked until the end of the transaction.

    A key that is missing in the answer was computed an instant ago.
    """
    wanted = sorted(wishes)
    tx.many(
        f"INSERT INTO computations (cache_key, {_TASK}, joined_at) VALUES (?,?,?,?,?,?,?) ON CONFLICT (cache_key) DO NOTHING",
        ((key, *task, now) for key, task in wanted),
    )
    keys = list(dict.fromkeys(key for key, _ in wanted))
    if not keys:
        return {}
    rows = tx.rows(
        f"SELECT cache_key, {_TASK} FROM computations WHERE cache_key IN ({marks(keys)}) ORDER BY cache_key{tx.lock}",
        keys,
    )
    return {str(key): TaskKey(*task) for key, *task in rows}


def stop_leading(tx: Transaction, led: Iterable[tuple[str, TaskKey]]) -> None:
    """End computations, where these tasks are the ones that compute."""
    tx.many(f"DELETE FROM computations WHERE cache_key = ? AND {_IS_TASK}", ((key, *task) for key, task in sorted(led)))


def hand_over(tx: Transaction, key: str, old: TaskKey, new: TaskKey) -> bool:
    """Let another task compute a key; whether it was the old one's to give."""
    return bool(
        tx.run(
            "UPDATE computations SET run_id = ?, stage = ?, round = ?, phase = ?, idx = ?"
            f" WHERE cache_key = ? AND {_IS_TASK}",
            (*new, key, *old),
        )
    )


def led_by(tx: Transaction, run_id: str) -> list[tuple[str, TaskKey]]:
    rows = tx.rows(f"SELECT cache_key, {_TASK} FROM computations WHERE run_id = ?{tx.lock}", (run_id,))
    return [(str(key), TaskKey(*task)) for key, *task in rows]


def subscribers(tx: Transaction, keys: Iterable[str]) -> dict[str, list[TaskKey]]:
    """Tasks that wait for a key's answer, most urgent first. Ask after the computation is locked or ended."""
    wanted = list(keys)
    found: dict[str, list[TaskKey]] = {}
    if wanted:
        for key, *task in tx.rows(
            f"SELECT cache_key, {_TASK} FROM tasks WHERE status = 'subscribed' AND cache_key IN ({marks(wanted)})"
            " ORDER BY priority DESC, run_id, stage, round, phase, idx",
            wanted,
        ):
            found.setdefault(str(key), []).append(TaskKey(*task))
    return found


def raise_priorities(tx: Transaction, wishes: Iterable[tuple[TaskKey, int]]) -> None:
    """Let pending tasks that compute for others be as urgent as these; those that somebody else has are passed over."""
    skip = f"{tx.lock} SKIP LOCKED" if tx.lock else ""
    tx.many(
        f"UPDATE tasks SET priority = ? WHERE ({_TASK}) IN (SELECT {_TASK} FROM tasks WHERE {_IS_TASK}"
        f" AND status = 'pending' AND priority < ?{skip})",
        ((priority, *task, priority) for task, priority in wishes),
    )


def orphans(database: Database, *, limit: int) -> list[tuple[str, TaskKey]]:
    """Computations that somebody waits for, and whose own task is not at it."""
    rows = database.read(
        f"SELECT c.cache_key, {_of('c')} FROM computations c WHERE EXISTS (SELECT 1 FROM tasks s WHERE"
        " s.cache_key = c.cache_key AND s.status = 'subscribed') AND NOT EXISTS (SELECT 1 FROM tasks t WHERE"
        " t.run_id = c.run_id AND t.stage = c.stage AND t.round = c.round AND t.phase = c.phase AND t.idx = c.idx"
        " AND t.status IN ('undecided', 'pending', 'subscribed', 'dispatched', 'running')) LIMIT ?",
        (limit,),
    )
    return [(str(key), TaskKey(*task)) for key, *task in rows]


def lost_subscribers(database: Database, *, limit: int) -> list[tuple[str, TaskKey]]:
    """Tasks that wait for an answer which nobody computes."""
    rows = database.read(
        f"SELECT s.cache_key, {_of('s')} FROM tasks s WHERE s.status = 'subscribed' AND NOT EXISTS"
        " (SELECT 1 FROM computations c WHERE c.cache_key = s.cache_key) LIMIT ?",
        (limit,),
    )
    return [(str(key), TaskKey(*task)) for key, *task in rows]


# --- what is told of it ----------------------------------------------------------------------------------------------


def uses_of(database: Database, run_id: str, stage: str) -> list[Use]:
    """What a run found about a stage, in the order of its phases and rounds."""
    rows = database.read(
        f"SELECT {', '.join(Use._fields)} FROM cache_uses WHERE run_id = ? AND stage = ?", (run_id, stage)
    )
    order = ("plan", "work", "merge")
    return sorted(map(_use, rows), key=lambda use: (use.round, order.index(use.phase)))


def fields_of(database: Database, base: str) -> dict[str, str]:
    rows = database.read("SELECT fields FROM cache_bases WHERE base = ?", (base,))
    return dict(json.loads(rows[0][0])) if rows else {}


def earlier_entries(database: Database, use: Use, *, limit: int) -> list[tuple[str, dict[str, str]]]:
    """(run id, fields) of earlier looks of the same pipeline and stage that left an answer, newest first."""
    rows = database.read(
        "SELECT u.run_id, b.fields FROM cache_uses u JOIN cache_bases b ON b.base = u.base WHERE u.tenant = ?"
        " AND u.pipeline = ? AND u.stage = ? AND u.phase = ? AND u.round = ? AND u.run_id < ?"
        " AND EXISTS (SELECT 1 FROM cache c WHERE c.base = u.base) ORDER BY u.run_id DESC LIMIT ?",
        (use.tenant, use.pipeline, use.stage, use.phase, use.round, use.run_id, limit),
    )
    return [(str(run_id), json.loads(fields)) for run_id, fields in rows]


def _use(row: Row) -> Use:
    return Use(*row)


def _of(alias: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in _TASK.split(", "))
