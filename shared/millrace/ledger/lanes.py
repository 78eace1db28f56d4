"""Lanes: the pending tasks of a resource class by tenant and limit, read from their heads; and who holds places and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from millrace.ledger.database import Row, Transaction
from millrace.ledger.state import TaskState
from millrace.ledger.tasks import COLUMNS, task_of

_IN_CLASS = "status = 'pending' AND service = ? AND resource_class = ?"
_IN_LANE = f"{_IN_CLASS} AND tenant = ? AND limit_key = ?"
_IS_HELD = "status IN ('dispatched', 'running')"
# Ordered and cut to one row, not MIN: PostgreSQL may plan a minimum as an aggregate over all pending tasks.
_SKIP_SCAN = f"""
    WITH RECURSIVE tenants(tenant) AS (
        SELECT (SELECT tenant FROM tasks WHERE {_IN_CLASS} ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant FROM tasks WHERE {_IN_CLASS} AND tenant > t.tenant ORDER BY tenant LIMIT 1)
        FROM tenants t WHERE t.tenant IS NOT NULL
    ), lanes(tenant, limit_key) AS (
        SELECT tenant,
            (SELECT limit_key FROM tasks WHERE {_IN_CLASS} AND tenant = t.tenant ORDER BY limit_key LIMIT 1)
        FROM tenants t WHERE t.tenant IS NOT NULL
        UNION ALL
        SELECT tenant,
            (SELECT limit_key FROM tasks WHERE {_IN_CLASS} AND tenant = l.tenant AND limit_key > l.limit_key
                ORDER BY limit_key LIMIT 1)
        FROM lanes l WHERE l.limit_key IS NOT NULL
    ) SELECT tenant, limit_key FROM lanes WHERE limit_key IS NOT NULL"""


class Lane(NamedTuple):
    """Pending tasks of one tenant that count against one limit; the empty key is no limit."""

    tenant: str
    limit_key: str


class Hold(NamedTuple):
    """Who holds a limit's key.

    Attributes:
        held: Dispatched and running tasks.
        smallest: The least maximum that their stages name; None where nobody holds it.
        ruled: The operator's maximum, if there is one.
    """

    held: int
    smallest: int | None
    ruled: int | None


def lock_names(tx: Transaction, names: Iterable[str]) -> None:
    """Wait until no other transaction decides about any of these names; until this one ends nobody else will.

    Whoever locks several times in a transaction keeps to one order of names, and locks no run afterwards that may be
    somebody else's, except by passing over it: then nobody waits in a circle.
    """
    if tx.lock:  # SQLite's writers are alone anyway
        for name in sorted(set(names)):
            tx.write("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (name,))


def find_lanes(tx: Transaction, service: str, resource_class: str) -> Callable[[], list[Lane]]:
    """Ask for the lanes that are not empty. The index is entered once for each, however many tasks they have."""
    rows = tx.ask(_SKIP_SCAN, (service, resource_class) * 4)
    return lambda: [Lane(str(t), str(k)) for t, k in rows()]


def lane_tasks(
    tx: Transaction,
    service: str,
    resource_class: str,
    lane: Lane,
    *,
    now: float,
    limit: int,
    behind: TaskState | None = None,
) -> list[TaskState]:
    """The head of a lane: tasks that may start now, highest priority first, then oldest run first.

    Args:
        behind: Pass over the lane up to the end of this task's run.
    """
    order = "ORDER BY priority DESC, run_id, stage, round, phase, idx LIMIT ?"

    def head(where: str, *values: object, limit: int) -> list[Row]:
        asked = (service, resource_class, *lane, *values, now, limit)
        return tx.rows(f"SELECT {COLUMNS} FROM tasks WHERE {_IN_LANE}{where} AND ready_at <= ? {order}", asked)

    if behind is None:
        return [task_of(r) for r in head("", limit=limit)]
    # Two ranges of the index; one condition with OR would read the lane from its start.
    rows = head(" AND priority = ? AND run_id > ?", behind.priority, behind.key.run_id, limit=limit)
    if len(rows) < limit:
        rows += head(" AND priority < ?", behind.priority, limit=limit - len(rows))
    return [task_of(r) for r in rows]


def held_places(tx: Transaction, service: str, resource_class: str) -> Mapping[str, int]:
    """How many tasks of a class are dispatched or running, by tenant."""
    rows = tx.rows(
        f"SELECT tenant, COUNT(*) FROM tasks WHERE service = ? AND resource_class = ? AND {_IS_HELD} GROUP BY tenant",
        (service, resource_class),
    )
    return {str(tenant): int(num) for tenant, num in rows}


def held_limit(tx: Transaction, lane: Lane) -> Hold:
    """Who holds the key of a lane, in all classes, and what the operator says of it."""
    where = f"tenant = ? AND limit_key = ? AND limit_key <> '' AND {_IS_HELD}"
    held, smallest = tx.rows(f"SELECT COUNT(*), MIN(limit_max) FROM tasks WHERE {where}", lane)[0]
    ruled = tx.rows("SELECT max FROM limits WHERE tenant = ? AND key = ?", lane)
    return Hold(int(held), None if smallest is None else int(smallest), int(ruled[0][0]) if ruled else None)
