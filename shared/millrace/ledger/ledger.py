"""What the gateway asks of the ledger: accept a submission or a cancel, and read runs, events, models and endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import digest_of
from millrace.contracts.events import (
    CancelRequested,
    EndpointDesired,
    ErrorInfo,
    Event,
    RunSubmitted,
    decode,
    make_event,
)
from millrace.contracts.ids import new_id
from millrace.contracts.views import EndpointView, EventView, ModelView, RunPage, RunView, StageView
from millrace.ledger import journal
from millrace.ledger.database import Database, Row, Transaction, open_database
from millrace.ledger.migrations import migrate
from millrace.ledger.state import FINAL_RUN, StageState

_RUN = "run_id, tenant, pipeline, status, priority, labels, params, submitted_at, started_at, finished_at, stage, error, seq"
_ENDPOINT = "tenant, name, generation, release_number, model, run_id, status, error, updated_at"


def open_ledger(url: str) -> Ledger:
    """Open the ledger and bring its schema up to date.

    Raises:
        Unavailable, Unauthorized, Corrupt, Conflict: With a remedy.
    """
    database = open_database(url)
    migrate(database)
    return Ledger(database)


class Ledger:
    """The gateway's view of the run journal. Thread-safe; every call blocks."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- writing

    def submit(self, event: Event) -> RunView:
        """Accept a run: when this returns, it is committed and will reach an end.

        The same run id, or the same idempotency key, with the same content returns the run that is there.

        Raises:
            Conflict: The id or the key was used for something else.
        """
        data = decode(event)
        assert isinstance(data, RunSubmitted)
        content = digest_of([data.graph.model_dump(mode="json"), data.params, data.priority, data.labels])
        run_id = self.database.transact(lambda tx: _submit(tx, event, data, content))
        return self.run(event.tenant, run_id)

    def request_cancel(self, event: Event) -> RunView:
        """Ask for a run's end; asking again changes nothing.

        Raises:
            NotFound: There is no such run.
            Conflict: It has already ended otherwise.
        """
        data = decode(event)
        assert isinstance(data, CancelRequested)

        def work(tx: Transaction) -> None:
            found = tx.rows("SELECT status FROM runs WHERE tenant = ? AND run_id = ?", (event.tenant, data.run_id))
            if not found:
                raise _no_run(data.run_id)
            if found[0][0] in FINAL_RUN - {"cancelled"}:
                raise errors.Conflict(
                    f"Run {data.run_id} has already {found[0][0]}.", remedy="There is nothing to cancel."
                )
            _put_inbox(tx, event, data.run_id)

        self.database.transact(work)
        return self.run(event.tenant, data.run_id)

    def stop_endpoint(self, tenant: str, name: str) -> EndpointView:
        """Advance the endpoint to a generation without a release; its servers unload it.

        Raises:
            NotFound: There is no such endpoint.
        """

        def work(tx: Transaction) -> None:
            rows = tx.rows(
                f"SELECT generation, release_number FROM endpoints WHERE tenant = ? AND name = ?{tx.lock}",
                (tenant, name),
            )
            if not rows:
                raise errors.NotFound(f"There is no endpoint {name!r}.", remedy="See `millrace endpoints`.")
            if rows[0][1] == 0:
                return
            set_desired(tx, tenant, name, release=0, model=None, run_id="", owner="", now=time.time())

        self.database.transact(work)
        return self.endpoint(tenant, name)

    # --- reading

    def run(self, tenant: str, run_id: str) -> RunView:
        """Return a run with its stages.

        Raises:
            NotFound: There is no such run.
        """
        rows = self.database.read(f"SELECT {_RUN}, graph FROM runs WHERE tenant = ? AND run_id = ?", (tenant, run_id))
        if not rows:
            raise _no_run(run_id)
        graph = json.loads(rows[0][-1])
        facts = {s["name"]: s for s in graph["stages"]}
        stages = self.database.read(
            f"SELECT {journal._STAGE} FROM stages WHERE run_id = ? ORDER BY position", (run_id,)
        )
        views = tuple(_stage_view(journal._stage(s), facts) for s in stages)
        return _run_view(rows[0][:-1], views)

    def runs(
        self,
        tenant: str,
        *,
        status: str = "",
        pipeline: str = "",
        label: tuple[str, str] | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> RunPage:
        """List runs, newest first; `cursor` is a page's `next_cursor`."""
        where, values = ["tenant = ?"], [tenant]
        for column, value in (("status", status), ("pipeline", pipeline)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if cursor:
            where.append("run_id < ?")
            values.append(cursor)
        if label:
            where.append("labels LIKE ? ESCAPE '!'")
            values.append(f"%{_escaped(json.dumps({label[0]: label[1]})[1:-1])}%")
        rows = self.database.read(
            f"SELECT {_RUN} FROM runs WHERE {' AND '.join(where)} ORDER BY run_id DESC LIMIT ?", [*values, limit + 1]
        )
        views = tuple(_run_view(r, ()) for r in rows[:limit])
        return RunPage(runs=views, next_cursor=views[-1].run_id if len(rows) > limit else "")

    def events(self, tenant: str, run_id: str, *, after: int = 0, limit: int = 500) -> list[EventView]:
        """Journalled events of a run with a number above `after`, in order."""
        rows = self.database.read(
            "SELECT seq, event_id, type, time, source, data FROM events WHERE tenant = ? AND subject = ? AND seq > ?"
            " AND refused = '' ORDER BY seq LIMIT ?",
            (tenant, run_id, after, limit),
        )
        return [
            EventView(seq=s, id=i, type=t, time=_time(at), source=src, data=json.loads(d))
            for s, i, t, at, src, d in rows
        ]

    def models(self, tenant: str) -> list[ModelView]:
        """Released models, newest first."""
        rows = self.database.read(
            "SELECT endpoint, release_number, model, run_id, released_at, metrics FROM releases WHERE tenant = ?"
            " ORDER BY released_at DESC LIMIT 500",
            (tenant,),
        )
        return [
            ModelView(
                endpoint=e,
                release=n,
                model=ArtifactRef.model_validate_json(m),
                run_id=r,
                released_at=_time(at),
                metrics=json.loads(x),
            )
            for e, n, m, r, at, x in rows
        ]

    def endpoints(self, tenant: str) -> list[EndpointView]:
        rows = self.database.read(f"SELECT {_ENDPOINT} FROM endpoints WHERE tenant = ? ORDER BY name", (tenant,))
        return [self._endpoint_view(r) for r in rows]

    def endpoint(self, tenant: str, name: str) -> EndpointView:
        """Return an endpoint.

        Raises:
            NotFound: There is no such endpoint; the message names the nearest.
        """
        rows = self.database.read(f"SELECT {_ENDPOINT} FROM endpoints WHERE tenant = ? AND name = ?", (tenant, name))
        if not rows:
            names = [r[0] for r in self.database.read("SELECT name FROM endpoints WHERE tenant = ?", (tenant,))]
            raise errors.NotFound(f"There is no endpoint {name!r}; {errors.nearest(name, names)}", field="endpoint")
        return self._endpoint_view(rows[0])

    def workers(self, *, seen_within_s: float = 30.0) -> list[dict[str, Any]]:
        """Workers heard of lately: id, host, services, slots by class."""
        rows = self.database.read(
            "SELECT worker_id, host, services, classes, seen_at FROM workers WHERE seen_at > ?",
            (time.time() - seen_within_s,),
        )
        return [
            {"worker_id": w, "host": h, "services": json.loads(s), "classes": json.loads(c), "seen_at": at}
            for w, h, s, c, at in rows
        ]

    def check(self) -> None:
        """Raise Unavailable or Unauthorized unless the ledger answers."""
        self.database.read("SELECT version FROM schema_version")

    def close(self) -> None:
        self.database.close()

    def _endpoint_view(self, row: Row) -> EndpointView:
        tenant, name, generation, release, model, run_id, status, error, updated_at = row
        servers = self.database.read(
            "SELECT url FROM endpoint_servers WHERE tenant = ? AND name = ? AND status = 'ready' AND generation = ?"
            " ORDER BY seen_at DESC",
            (tenant, name, generation),
        )
        return EndpointView(
            name=name, generation=generation, release=release, run_id=run_id, status=status, updated_at=_time(updated_at),
            model=None if model is None else ArtifactRef.model_validate_json(model),
            error=None if error is None else ErrorInfo.model_validate_json(error),
            urls=tuple(str(u) for (u,) in servers),
        )  # fmt: skip


def set_desired(
    tx: Transaction,
    tenant: str,
    name: str,
    *,
    release: int,
    model: ArtifactRef | None,
    run_id: str,
    owner: str,
    now: float,
) -> EndpointDesired:
    """Advance an endpoint's desired state by one generation, and queue the word of it: event, signal and ref."""
    rows = tx.rows(
        "INSERT INTO endpoints (tenant, name, generation, release_number, model, run_id, status, error, updated_at)"
        " VALUES (?,?,1,?,?,?,?,NULL,?) ON CONFLICT (tenant, name) DO UPDATE SET generation = endpoints.generation + 1,"
        " release_number = excluded.release_number, model = excluded.model, run_id = excluded.run_id, status = excluded.status,"
        " error = NULL, updated_at = excluded.updated_at RETURNING generation",
        (tenant, name, release, None if model is None else model.model_dump_json(), run_id,
         "starting" if release else "stopped", now),
    )  # fmt: skip
    desired = EndpointDesired(name=name, generation=int(rows[0][0]), release=release, model=model, run_id=run_id)
    event = make_event(desired, source="conductor", subject=run_id or f"endpoint/{name}", tenant=tenant)
    journal.append_event(tx, event)
    for kind in ("ref", "event", "signal"):  # the ref first: whoever hears the rest finds it
        journal.put_outbox(tx, kind, event.to_json(), owner=owner, now=now)
    return desired


def _submit(tx: Transaction, event: Event, data: RunSubmitted, content: str) -> str:
    inserted = tx.run(
        "INSERT INTO runs (run_id, tenant, pipeline, status, priority, labels, params, graph, trace, idempotency_key,"
        " content_digest, seq, submitted_at, stage) VALUES (?,?,?,'queued',?,?,?,?,?,?,?,0,?,'') ON CONFLICT DO NOTHING",
        (data.run_id, event.tenant, data.graph.pipeline, data.priority, json.dumps(data.labels, sort_keys=True),
         json.dumps(data.params), data.graph.model_dump_json(), json.dumps(data.trace), data.idempotency_key, content,
         time.time()),
    )  # fmt: skip
    if not inserted:
        return _same_run(tx, event.tenant, data, content)
    for position, stage in enumerate(data.graph.stages):
        journal.save_stage(tx, data.run_id, StageState(name=stage.name, position=position))
    _put_inbox(tx, event, data.run_id)
    return data.run_id


def _same_run(tx: Transaction, tenant: str, data: RunSubmitted, content: str) -> str:
    """The run that already has this id or idempotency key, if it is the same submission."""
    rows = tx.rows(
        "SELECT run_id, content_digest FROM runs WHERE run_id = ?"
        " OR (tenant = ? AND idempotency_key = ? AND idempotency_key <> '')",
        (data.run_id, tenant, data.idempotency_key),
    )
    if any(digest != content for _, digest in rows):
        raise errors.Conflict(
            f"Run {rows[0][0]} was submitted under this id or idempotency key with other content.",
            remedy="Use a new id or key for a new run.",
        )
    return str(rows[0][0])


def _put_inbox(tx: Transaction, event: Event, run_id: str) -> None:
    tx.run(
        "INSERT INTO inbox (event_id, run_id, event, received_at) VALUES (?,?,?,?) ON CONFLICT (event_id) DO NOTHING",
        (event.id or new_id("evt"), run_id, event.to_json(), time.time()),
    )


def _no_run(run_id: str) -> errors.NotFound:
    return errors.NotFound(f"There is no run {run_id!r}.", remedy="See `millrace runs`.", field="run_id")


def _run_view(row: Sequence[Any], stages: tuple[StageView, ...]) -> RunView:
    (run_id, tenant, pipeline, status, priority, labels, params, submitted, started, finished, stage, error, seq) = row
    return RunView(
        run_id=run_id, tenant=tenant, pipeline=pipeline, status=status, priority=priority, labels=json.loads(labels),
        params=json.loads(params), submitted_at=_time(submitted), started_at=journal.to_time(started),
        finished_at=journal.to_time(finished), stage=stage, stages=stages, seq=seq,
        error=None if error is None else ErrorInfo.model_validate_json(error),
    )  # fmt: skip


def _stage_view(stage: StageState, facts: dict[str, dict[str, Any]]) -> StageView:
    fact = facts.get(stage.name, {})
    return StageView(
        name=stage.name, kind=fact.get("kind", ""), status=stage.status, implied=fact.get("implied", False),
        num_tasks=stage.num_tasks, num_done=stage.num_done, attempts=stage.attempts,
        started_at=journal.to_time(stage.started_at), finished_at=journal.to_time(stage.finished_at),
        outputs=stage.outputs, error=stage.error,
    )  # fmt: skip


def _time(seconds: float) -> Any:
    return journal.to_time(seconds)


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
