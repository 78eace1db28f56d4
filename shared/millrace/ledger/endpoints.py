"""Rows of endpoints: the desired state and its generations, releases, and what servers report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import (
    EndpointDesired,
    EndpointReported,
    ErrorInfo,
    Event,
    ReleaseSuperseded,
    make_event,
)
from millrace.contracts.ids import DEFAULT_TENANT, new_id
from millrace.contracts.views import EndpointView, ModelView
from millrace.ledger import journal, queues
from millrace.ledger.database import Database, Row, Transaction
from millrace.ledger.journal import to_time
from millrace.ledger.queues import OutboxKind
from millrace.ledger.runs import decode, encode

_COLUMNS = "tenant, name, generation, release_number, model, run_id, status, error, updated_at"

DESIRED_KINDS: tuple[OutboxKind, ...] = ("ref", "event", "signal")
"""How the word of a new desired state goes out: the ref first, so that whoever hears the rest finds it."""


def add_release(
    tx: Transaction, tenant: str, endpoint: str, *, model: ArtifactRef, run_id: str, metrics: Mapping[str, float], now: float
) -> int:  # fmt: skip
    """Number a release within its endpoint; return the number. The endpoint's row is the lock, once it is there."""
    tx.rows(f"SELECT 1 FROM endpoints WHERE tenant = ? AND name = ?{tx.lock}", (tenant, endpoint))
    rows = tx.rows(
        "SELECT COALESCE(MAX(release_number), 0) + 1 FROM releases WHERE tenant = ? AND endpoint = ?",
        (tenant, endpoint),
    )
    number = int(rows[0][0])
    tx.run(
        "INSERT INTO releases (tenant, endpoint, release_number, model, run_id, metrics, released_at)"
        " VALUES (?,?,?,?,?,?,?)",
        (tenant, endpoint, number, encode(model), run_id, json.dumps(dict(metrics)), now),
    )
    return number


def advance_endpoint(
    tx: Transaction, tenant: str, name: str, *, release: int, model: ArtifactRef | None, run_id: str, now: float
) -> EndpointDesired:
    """Advance an endpoint's desired state by one generation.

    A run that still waits for a server to report the generation before is told, through its inbox, that none will.
    """
    before = tx.rows(f"SELECT run_id FROM endpoints WHERE tenant = ? AND name = ?{tx.lock}", (tenant, name))
    rows = tx.rows(
        "INSERT INTO endpoints (tenant, name, generation, release_number, model, run_id, status, error, updated_at)"
        " VALUES (?,?,1,?,?,?,?,NULL,?) ON CONFLICT (tenant, name) DO UPDATE SET generation = endpoints.generation + 1,"
        " release_number = excluded.release_number, model = excluded.model, run_id = excluded.run_id, status = excluded.status,"
        " error = NULL, updated_at = excluded.updated_at RETURNING generation",
        (tenant, name, release, encode(model), run_id, "starting" if release else "stopped", now),
    )
    desired = EndpointDesired(name=name, generation=int(rows[0][0]), release=release, model=model, run_id=run_id)
    if before and before[0][0] not in ("", run_id):
        _tell_superseded(tx, tenant, str(before[0][0]), desired, now=now)
    return desired


def set_desired(
    tx: Transaction, tenant: str, name: str, *, release: int, model: ArtifactRef | None, run_id: str, owner: str, now: float
) -> EndpointDesired:  # fmt: skip
    """Advance an endpoint outside of any run's folding; journal it and queue the word of it."""
    desired = advance_endpoint(tx, tenant, name, release=release, model=model, run_id=run_id, now=now)
    event = desired_event(desired, tenant=tenant)
    journal.append_event(tx, event)
    row = queues.Outgoing(new_id("out"), [(kind, event) for kind in DESIRED_KINDS])
    queues.put_outbox(tx, [row], owner=owner, now=now)
    return desired


def desired_event(desired: EndpointDesired, *, tenant: str = DEFAULT_TENANT) -> Event:
    """About the run that released it, or about the endpoint where no run did."""
    subject = desired.run_id or f"endpoint/{desired.name}"
    return make_event(desired, source="conductor", subject=subject, tenant=tenant)


def note_report(tx: Transaction, tenant: str, data: EndpointReported, *, now: float) -> None:
    """Keep what a server says of an endpoint; an older generation's word changes no status."""
    tx.run(
        "INSERT INTO endpoint_servers (tenant, name, server, url, generation, status, seen_at) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (tenant, name, server) DO UPDATE SET url = excluded.url, generation = excluded.generation,"
        " status = excluded.status, seen_at = excluded.seen_at WHERE endpoint_servers.generation <= excluded.generation",
        (tenant, data.name, data.server, data.url, data.generation, data.status, now),
    )
    tx.run(
        "UPDATE endpoints SET status = ?, error = ?, updated_at = ? WHERE tenant = ? AND name = ? AND generation = ?"
        " AND NOT (status = 'ready' AND ? = 'failed')",
        (data.status, encode(data.error), now, tenant, data.name, data.generation, data.status),
    )


def current_model(tx: Transaction, tenant: str, name: str) -> ArtifactRef | None:
    """The model that the endpoint is to serve, if it is to serve one."""
    rows = tx.rows("SELECT model FROM endpoints WHERE tenant = ? AND name = ?", (tenant, name))
    return decode(ArtifactRef, rows[0][0]) if rows else None


# --- reading ---------------------------------------------------------------------------------------------------------


def list_endpoints(database: Database, tenant: str) -> list[EndpointView]:
    rows = database.read(f"SELECT {_COLUMNS} FROM endpoints WHERE tenant = ? ORDER BY name", (tenant,))
    servers = database.read(
        "SELECT s.name, s.url FROM endpoint_servers s JOIN endpoints e ON e.tenant = s.tenant AND e.name = s.name"
        " AND e.generation = s.generation WHERE s.tenant = ? AND s.status = 'ready' ORDER BY s.seen_at DESC",
        (tenant,),
    )
    return [_view(row, [str(url) for name, url in servers if name == row[1]]) for row in rows]


def find_endpoint(database: Database, tenant: str, name: str) -> EndpointView:
    """Return an endpoint.

    Raises:
        NotFound: There is no such endpoint; the message names the nearest.
    """
    rows = database.read(f"SELECT {_COLUMNS} FROM endpoints WHERE tenant = ? AND name = ?", (tenant, name))
    if not rows:
        raise no_endpoint(name, [r[0] for r in database.read("SELECT name FROM endpoints WHERE tenant = ?", (tenant,))])
    servers = database.read(
        "SELECT url FROM endpoint_servers WHERE tenant = ? AND name = ? AND status = 'ready' AND generation = ?"
        " ORDER BY seen_at DESC",
        (tenant, name, rows[0][2]),
    )
    return _view(rows[0], [str(url) for (url,) in servers])


def no_endpoint(name: str, names: Sequence[str]) -> errors.NotFound:
    return errors.NotFound(f"There is no endpoint {name!r}; {errors.nearest(name, names)}", field="endpoint")


def list_models(database: Database, tenant: str) -> list[ModelView]:
    """Released models, newest first."""
    rows = database.read(
        "SELECT endpoint, release_number, model, run_id, released_at, metrics FROM releases WHERE tenant = ?"
        " ORDER BY released_at DESC LIMIT 500",
        (tenant,),
    )
    return [
        ModelView(
            endpoint=e, release=n, model=ArtifactRef.received_json(m), run_id=r, released_at=_time(at),
            metrics=json.loads(x),
        )
        for e, n, m, r, at, x in rows
    ]  # fmt: skip


def _tell_superseded(tx: Transaction, tenant: str, run_id: str, desired: EndpointDesired, *, now: float) -> None:
    if not tx.rows("SELECT 1 FROM stages WHERE run_id = ? AND phase = 'release' AND status = 'running'", (run_id,)):
        return
    data = ReleaseSuperseded(
        run_id=run_id, endpoint=desired.name, generation=desired.generation, release=desired.release, by=desired.run_id
    )
    event = make_event(
        data, source="conductor", subject=run_id, tenant=tenant,
        id=f"{run_id}.{desired.name}.{desired.generation}.superseded",
    )  # fmt: skip
    queues.put_inbox(tx, event, run_id=run_id, now=now)


def _view(row: Row, urls: Sequence[str]) -> EndpointView:
    _, name, generation, release, model, run_id, status, error, updated_at = row
    return EndpointView(
        name=name, generation=generation, release=release, run_id=run_id, status=status, updated_at=_time(updated_at),
        model=decode(ArtifactRef, model), error=decode(ErrorInfo, error), urls=tuple(urls),
    )  # fmt: skip


def _time(seconds: float) -> Any:
    return to_time(seconds)
