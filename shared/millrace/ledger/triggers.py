"""Pipelines that are kept, and the triggers that start them: rows, and who may fire which now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from millrace import errors
from millrace.contracts.base import digest_of
from millrace.contracts.loading import load_spec
from millrace.contracts.pipelines import PipelineSpec
from millrace.contracts.triggers import CronTrigger, PipelineView, Trigger, TriggerView
from millrace.ledger.database import Database, Row, Transaction
from millrace.ledger.journal import to_time

_TRIGGER: TypeAdapter[Trigger] = TypeAdapter(Trigger)
_COLUMNS = "trigger_id, tenant, pipeline, spec, state, is_paused, next_at, error"


@dataclass(frozen=True, slots=True)
class TriggerRow:
    """A trigger and what it remembers.

    Attributes:
        state: Of a prefix: what it saw last, since when, and what it fired for.
        next_at: A clock's next instant, or when to look at a prefix again; None: never.
        error: Why its latest firing did not start a run; empty: it did.
    """

    trigger_id: str
    tenant: str
    pipeline: str
    trigger: Trigger
    state: Mapping[str, Any] = field(default_factory=dict)
    is_paused: bool = False
    next_at: float | None = None
    error: str = ""

    def view(self) -> TriggerView:
        return TriggerView(
            trigger_id=self.trigger_id, pipeline=self.pipeline, trigger=self.trigger, is_paused=self.is_paused,
            next_at=to_time(self.next_at), latest_run=str(self.state.get("latest_run", "")), error=self.error,
        )  # fmt: skip


def apply_pipeline(tx: Transaction, tenant: str, spec: PipelineSpec, params: Mapping[str, Any], *, now: float) -> None:
    """Keep a pipeline under its name. Triggers that are as they were remember what they saw; others begin anew, from now."""
    body = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    tx.run(
        "INSERT INTO pipelines (tenant, name, version, spec, params, applied_at) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, spec = excluded.spec,"
        " params = excluded.params, applied_at = excluded.applied_at",
        (tenant, spec.name, digest_of(body), json.dumps(body), json.dumps(dict(params)), now),
    )
    wanted = {trigger.id_in(tenant, spec.name): trigger for trigger in spec.triggers}
    before = {row.trigger_id for row in _triggers(tx, "tenant = ? AND pipeline = ?", tenant, spec.name)}
    for trigger_id in before - wanted.keys():
        tx.run("DELETE FROM triggers WHERE trigger_id = ?", (trigger_id,))
    for trigger_id in sorted(wanted.keys() - before):
        trigger = wanted[trigger_id]
        save_trigger(tx, TriggerRow(trigger_id, tenant, spec.name, trigger, next_at=first_look(trigger, now)))


def first_look(trigger: Trigger, now: float) -> float | None:
    """When a trigger that was just applied or resumed is first due."""
    if not isinstance(trigger, CronTrigger):
        return now
    instant = trigger.next_after(datetime.fromtimestamp(now, UTC))
    return None if instant is None else instant.timestamp()


def forget_pipeline(tx: Transaction, tenant: str, name: str) -> None:
    """Forget a pipeline and its triggers; its runs stay. Raises NotFound."""
    if not tx.run("DELETE FROM pipelines WHERE tenant = ? AND name = ?", (tenant, name)):
        raise no_pipeline(name)
    tx.run("DELETE FROM triggers WHERE tenant = ? AND pipeline = ?", (tenant, name))


def pipelines(database: Database, tenant: str) -> list[PipelineView]:
    rows = database.read(
        "SELECT name, version, spec, params, applied_at FROM pipelines WHERE tenant = ? ORDER BY name", (tenant,)
    )
    kept = [TriggerRow.view(row) for row in triggers(database, tenant)]
    return [
        PipelineView(
            name=name, version=version, pipeline=json.loads(spec), params=json.loads(params), applied_at=_time(at),
            triggers=tuple(t for t in kept if t.pipeline == name),
        )
        for name, version, spec, params, at in rows
    ]  # fmt: skip


def triggers(database: Database, tenant: str) -> list[TriggerRow]:
    rows = database.read(f"SELECT {_COLUMNS} FROM triggers WHERE tenant = ? ORDER BY pipeline, trigger_id", (tenant,))
    return [_trigger(row) for row in rows]


def kept_pipeline(tx: Transaction, tenant: str, name: str) -> tuple[PipelineSpec, dict[str, Any]]:
    """A kept pipeline and the parameters it was applied with. Raises NotFound, or InvalidSpec if it no longer fits."""
    rows = tx.rows("SELECT spec, params FROM pipelines WHERE tenant = ? AND name = ?", (tenant, name))
    if not rows:
        raise no_pipeline(name)
    return load_spec(json.loads(rows[0][0])), json.loads(rows[0][1])


def set_paused(tx: Transaction, tenant: str, trigger_id: str, *, is_paused: bool, now: float) -> None:
    """Hold a trigger, or let it go on from now: what came meanwhile starts nothing. Raises NotFound."""
    found = _triggers(tx, "tenant = ? AND trigger_id = ?", tenant, trigger_id)
    if not found:
        raise errors.NotFound(
            f"There is no trigger {trigger_id!r}.", remedy="See `millrace triggers`.", field="trigger_id"
        )
    row = replace(found[0], is_paused=is_paused)
    is_resumed = found[0].is_paused and not is_paused
    save_trigger(tx, replace(row, next_at=first_look(row.trigger, now)) if is_resumed else row)


def due_trigger_ids(database: Database, *, now: float) -> list[str]:
    """Triggers to look at, the most overdue first."""
    rows = database.read(
        "SELECT trigger_id FROM triggers WHERE next_at <= ? AND is_paused = 0 ORDER BY next_at LIMIT 100", (now,)
    )
    return [str(i) for (i,) in rows]


def read_trigger(database: Database, trigger_id: str) -> TriggerRow | None:
    rows = database.read(f"SELECT {_COLUMNS} FROM triggers WHERE trigger_id = ?", (trigger_id,))
    return _trigger(rows[0]) if rows else None


def claim_trigger(tx: Transaction, trigger_id: str, *, now: float) -> TriggerRow | None:
    """Lock a trigger that is still due; None if another conductor was first, or holds it."""
    skip = f"{tx.lock} SKIP LOCKED" if tx.lock else ""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM triggers WHERE trigger_id = ? AND next_at <= ? AND is_paused = 0{skip}",
        (trigger_id, now),
    )
    return _trigger(rows[0]) if rows else None


def save_trigger(tx: Transaction, row: TriggerRow) -> None:
    tx.run(
        f"INSERT INTO triggers ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (trigger_id) DO UPDATE SET"
        " state = excluded.state, is_paused = excluded.is_paused, next_at = excluded.next_at, error = excluded.error",
        (row.trigger_id, row.tenant, row.pipeline, row.trigger.model_dump_json(), json.dumps(dict(row.state)),
         int(row.is_paused), row.next_at, row.error),
    )  # fmt: skip


def no_pipeline(name: str) -> errors.NotFound:
    return errors.NotFound(
        f"There is no pipeline {name!r}.",
        remedy="See `millrace pipelines`; `millrace apply FILE` keeps one.",
        field="name",
    )


def _triggers(tx: Transaction, where: str, *values: str) -> list[TriggerRow]:
    return [_trigger(row) for row in tx.rows(f"SELECT {_COLUMNS} FROM triggers WHERE {where}{tx.lock}", values)]


def _trigger(row: Row) -> TriggerRow:
    trigger_id, tenant, pipeline, spec, state, is_paused, next_at, error = row
    trigger = _TRIGGER.validate_json(spec)
    return TriggerRow(trigger_id, tenant, pipeline, trigger, json.loads(state), bool(is_paused), next_at, error)


def _time(seconds: float) -> Any:
    return to_time(seconds)
