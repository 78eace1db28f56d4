"""What goes from the ledger by age: events and tasks of ended runs, unused answers, uploads and dead letters.

A run's header, its stages with their outputs, and what it read and wrote stay. All by the database's rows alone, in
transactions of bounded size; running any of it again, or beside itself, is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from millrace.ledger.database import Database, Transaction
from millrace.ledger.journal import marks
from millrace.ledger.state import FINAL_RUN

BATCH = 1000
"""Rows that one transaction deletes."""

_DAY_S = 86400.0
_ENDED = f"status IN ({', '.join(repr(s) for s in sorted(FINAL_RUN))})"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things stay; 0 days: for ever."""

    runs_days: float
    cache_days: float
    uploads_days: float
    dead_letters_days: float


def trim(database: Database, tenant: str, policy: Retention, *, now: float, beat: Callable[[], None]) -> dict[str, int]:
    """Delete what is too old; return how many rows of each kind. `beat` is called between transactions."""
    counts = {
        name: _delete_old(database, table, key, column, tenant, now - days * _DAY_S, beat) if days else 0
        for name, table, key, column, days in (
            ("answers", "cache", "cache_key", "used_at", policy.cache_days),
            ("uploads", "uploads", "digest", "uploaded_at", policy.uploads_days),
            ("dead_letters", "dead_letters", "id", "died_at", policy.dead_letters_days),
        )
    }
    if policy.cache_days:
        _forget_bases(database, tenant, before=now - policy.cache_days * _DAY_S)
    runs = {"runs": 0, "events": 0, "tasks": 0}
    if policy.runs_days:
        before = now - policy.runs_days * _DAY_S
        for run_id in _runs_to_trim(database, tenant, before=before):
            for name, count in _trim_run(database, run_id, before=before, beat=beat).items():
                runs[name] += count
        runs["events"] += _trim_endpoints(database, tenant, before=before)
    return counts | runs


def count_old(database: Database, tenant: str, policy: Retention, *, now: float) -> dict[str, int]:
    """What `trim` would find now, without deleting it."""

    def count(table: str, column: str, days: float, also: str = "") -> int:
        sql = f"SELECT COUNT(*) FROM {table} WHERE tenant = ? AND {column} < ?{also}"
        return int(database.read(sql, (tenant, now - days * _DAY_S))[0][0]) if days else 0

    return {
        "answers": count("cache", "used_at", policy.cache_days),
        "uploads": count("uploads", "uploaded_at", policy.uploads_days),
        "dead_letters": count("dead_letters", "died_at", policy.dead_letters_days),
        "runs": count("runs", "finished_at", policy.runs_days, f" AND trimmed < 2 AND {_ENDED}"),
    }


def runs_without_heads(database: Database, run_ids: Collection[str], *, ended_before: float) -> set[str]:
    """Those of the runs whose tasks' heads nobody reads any more: succeeded a while ago, or trimmed.

    One that failed may be retried from its checkpoints until it is trimmed.
    """
    wanted = list(run_ids)
    rows = database.read(
        f"SELECT run_id FROM runs WHERE run_id IN ({marks(wanted)}) AND (trimmed > 0 OR (status = 'succeeded'"
        " AND finished_at < ?))",
        (*wanted, ended_before),
    )
    return {str(r) for (r,) in rows}


def _delete_old(
    database: Database, table: str, key: str, column: str, tenant: str, before: float, beat: Callable[[], None]
) -> int:
    sql = (
        f"DELETE FROM {table} WHERE tenant = ? AND {column} < ? AND {key} IN"
        f" (SELECT {key} FROM {table} WHERE tenant = ? AND {column} < ? LIMIT {BATCH})"
    )
    return _repeat(database, sql, (tenant, before, tenant, before), beat)


def _repeat(database: Database, sql: str, parameters: tuple[object, ...], beat: Callable[[], None]) -> int:
    total = 0
    while num := database.transact(lambda tx: tx.run(sql, parameters)):
        total += num
        beat()
    return total


def _runs_to_trim(database: Database, tenant: str, *, before: float) -> Iterator[str]:
    """A few at a time: trimmed ones are no longer found."""
    while rows := database.read(
        "SELECT run_id FROM runs WHERE tenant = ? AND trimmed < 2 AND finished_at IS NOT NULL AND finished_at < ?"
        f" AND {_ENDED} ORDER BY finished_at LIMIT 100",
        (tenant, before),
    ):
        yield from (str(r) for (r,) in rows)


def _trim_run(database: Database, run_id: str, *, before: float, beat: Callable[[], None]) -> dict[str, int]:
    def begin(tx: Transaction) -> int:
        # From here on it cannot be retried: what a retry would go on from is going. Its plans are of no use without tasks.
        rows = tx.rows(f"SELECT status, finished_at FROM runs WHERE run_id = ?{tx.lock}", (run_id,))
        if rows[0][0] not in FINAL_RUN or rows[0][1] is None or rows[0][1] >= before:
            return 0
        tx.run("UPDATE stages SET plan = NULL WHERE run_id = ?", (run_id,))
        return tx.run("UPDATE runs SET trimmed = 1 WHERE run_id = ? AND trimmed = 0", (run_id,)) or 1

    if not database.transact(begin):
        return {}
    counts = {}
    for table, key, column in (("events", "event_id", "subject"), ("tasks", "(stage, round, phase, idx)", "run_id")):
        inner = key.strip("()")
        sql = (
            f"DELETE FROM {table} WHERE {column} = ? AND {key} IN"
            f" (SELECT {inner} FROM {table} WHERE {column} = ? LIMIT {BATCH})"
        )
        counts[table] = _repeat(database, sql, (run_id, run_id), beat)
    database.transact(lambda tx: _end_trimming(tx, run_id))
    return {"runs": 1, **counts}


def _end_trimming(tx: Transaction, run_id: str) -> None:
    tx.run("DELETE FROM cache_uses WHERE run_id = ?", (run_id,))
    tx.run("UPDATE runs SET trimmed = 2 WHERE run_id = ?", (run_id,))


def _forget_bases(database: Database, tenant: str, *, before: float) -> None:
    """What answers were keyed by, once no answer and no run's explanation refers to it."""
    database.transact(
        lambda tx: tx.run(
            "DELETE FROM cache_bases WHERE tenant = ? AND created_at < ? AND base NOT IN (SELECT base FROM cache)"
            " AND base NOT IN (SELECT base FROM cache_uses)",
            (tenant, before),
        )
    )


def _trim_endpoints(database: Database, tenant: str, *, before: float) -> int:
    """Events about endpoints; the latest of each stays, because the next is numbered after it."""
    return database.transact(
        lambda tx: tx.run(
            "DELETE FROM events WHERE tenant = ? AND SUBSTR(subject, 1, 9) = 'endpoint/' AND time < ?"
            " AND seq < (SELECT MAX(seq) FROM events latest WHERE latest.subject = events.subject)",
            (tenant, before),
        )
    )
