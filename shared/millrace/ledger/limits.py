"""Limits by key: what operators set, and who holds and awaits a key."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.contracts.flow import LimitView
from millrace.ledger.database import Database, Row, Transaction


def set_limit(tx: Transaction, tenant: str, key: str, *, max: int) -> None:
    """Let at most `max` tasks hold a key, whatever their stages say; those that hold it keep it."""
    tx.run(
        "INSERT INTO limits (tenant, key, max) VALUES (?,?,?) ON CONFLICT (tenant, key) DO UPDATE SET max = excluded.max",
        (tenant, key, max),
    )


def drop_limit(tx: Transaction, tenant: str, key: str) -> None:
    """Let the stages' own maxima hold again."""
    tx.run("DELETE FROM limits WHERE tenant = ? AND key = ?", (tenant, key))


def find_limit(database: Database, tenant: str, key: str) -> LimitView:
    """A key as it is now; one that nobody has heard of has no maximum."""
    found = [view for view in list_limits(database, tenant) if view.key == key]
    return found[0] if found else LimitView(key=key, max=None, ruled=False, held=0, waiting=0)


def list_limits(database: Database, tenant: str) -> list[LimitView]:
    """Every key that the operator has set, that a task holds, or that one waits for."""
    rows = database.read(
        "SELECT limit_key, status, COUNT(*), MIN(limit_max) FROM tasks WHERE tenant = ? AND limit_key <> ''"
        " AND status IN ('pending', 'dispatched', 'running') GROUP BY limit_key, status",
        (tenant,),
    )
    ruled = {str(k): int(n) for k, n in database.read("SELECT key, max FROM limits WHERE tenant = ?", (tenant,))}
    keys = sorted(ruled.keys() | {str(row[0]) for row in rows})
    return [_view(key, ruled.get(key), [row for row in rows if row[0] == key]) for key in keys]


def _view(key: str, ruled: int | None, rows: Iterable[Row]) -> LimitView:
    found = list(rows)
    named = min((int(least) for *_, least in found), default=None)
    return LimitView(
        key=key,
        max=named if ruled is None else ruled,
        ruled=ruled is not None,
        held=sum(int(num) for _, status, num, _ in found if status != "pending"),
        waiting=sum(int(num) for _, status, num, _ in found if status == "pending"),
    )
