"""Rows of collections: one a tenant, which says how far its garbage collection is, and who may go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from millrace import errors
from millrace.contracts.ids import new_id
from millrace.ledger.database import Database, Transaction

CollectionPhase = Literal["trim", "mark", "expand", "sweep", "tidy", "done"]

LEASE_S = 300.0
"""How long a collector that says nothing keeps others away; no step of one lasts as long."""

_COLUMNS = "tenant, id, owner, phase, cursor_key, state, started_at, finished_at, leased_until"


@dataclass(frozen=True, slots=True)
class Collection:
    """How far a tenant's collection is.

    Attributes:
        cursor: The last digest that was swept.
        untouched_since: What was touched later stays, by the store's clock; fixed when marking begins.
        facts: Counts so far.
    """

    tenant: str
    id: str
    owner: str
    phase: CollectionPhase = "trim"
    cursor: str = ""
    untouched_since: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    finished_at: float | None = None


def claim(tx: Transaction, tenant: str, *, owner: str, now: float) -> Collection:
    """Take over what a dead collector left, or begin anew.

    Raises:
        Conflict: Another collector is at it.
    """
    rows = tx.rows(f"SELECT {_COLUMNS} FROM collections WHERE tenant = ?{tx.lock}", (tenant,))
    if rows and rows[0][7] is None and float(rows[0][8]) > now and rows[0][2] != owner:
        raise errors.Conflict(
            f"Garbage of tenant {tenant} is being collected by {rows[0][2]}.", remedy="Wait until it has ended."
        )
    if rows and rows[0][7] is None:
        found = _collection(rows[0])
        begun = Collection(
            tenant, found.id, owner, found.phase, found.cursor, found.untouched_since, found.facts, found.started_at
        )
    else:
        begun = Collection(tenant, new_id("gc"), owner, started_at=now)
    if not rows:
        # Two that begin at once collide here, on PostgreSQL too; the second then finds a row and is refused.
        tx.run(f"INSERT INTO collections ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", (*_values(begun), now + LEASE_S))
    else:
        _write(tx, begun, now=now, owner=str(rows[0][2]), id=str(rows[0][1]))
    return begun


def save(tx: Transaction, collection: Collection, *, now: float) -> None:
    """Write how far it is, which prolongs the lease.

    Raises:
        Conflict: Another collector took it over.
    """
    if not _write(tx, collection, now=now, owner=collection.owner, id=collection.id):
        raise errors.Conflict("Another collector took over.", remedy="Nothing is lost; it goes on where this one was.")


def release(tx: Transaction, collection: Collection) -> None:
    """Let another collector go on at once."""
    tx.run("UPDATE collections SET leased_until = 0 WHERE id = ? AND owner = ?", (collection.id, collection.owner))


def read_collection(database: Database, tenant: str) -> Collection | None:
    """The running or latest collection of a tenant."""
    rows = database.read(f"SELECT {_COLUMNS} FROM collections WHERE tenant = ?", (tenant,))
    return _collection(rows[0]) if rows else None


def tenants_due(database: Database, *, own: str, now: float, interval_s: float) -> list[str]:
    """Tenants whose last collection ended longer ago, or whose collector fell silent; with `own`, if it has none."""
    rows = database.read("SELECT tenant, finished_at, leased_until FROM collections")
    ready_at = {str(t): (float(until) if ended is None else float(ended) + interval_s) for t, ended, until in rows}
    known = {own, *ready_at, *_tenants(database)}
    return sorted(tenant for tenant in known if ready_at.get(tenant, 0.0) <= now)


def _tenants(database: Database) -> Iterator[str]:
    """Tenants that have runs, one step in the index each, however many runs they have."""
    tenant = ""
    while (tenant := database.read("SELECT MIN(tenant) FROM runs WHERE tenant > ?", (tenant,))[0][0]) is not None:
        yield str(tenant)


def _write(tx: Transaction, collection: Collection, *, now: float, owner: str, id: str) -> int:
    return tx.run(
        "UPDATE collections SET tenant = ?, id = ?, owner = ?, phase = ?, cursor_key = ?, state = ?, started_at = ?,"
        " finished_at = ?, leased_until = ? WHERE tenant = ? AND id = ? AND owner = ?",
        (*_values(collection), now + LEASE_S, collection.tenant, id, owner),
    )


def _values(c: Collection) -> tuple[Any, ...]:
    state = json.dumps({"untouched_since": c.untouched_since, "facts": c.facts})
    return c.tenant, c.id, c.owner, c.phase, c.cursor, state, c.started_at, c.finished_at


def _collection(row: tuple[Any, ...]) -> Collection:
    tenant, id_, owner, phase, cursor, state, started_at, finished_at, _ = row
    told = json.loads(state)
    return Collection(
        tenant, id_, owner, phase, cursor, told["untouched_since"], told["facts"], started_at, finished_at
    )
