"""What the gateway asks of the ledger: accept a submission or a cancel, and read runs, events, models and endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import digest_of
from millrace.contracts.events import (
    ErrorInfo,
    Event,
    Origin,
    RunSubmitted,
    decode,
)
from millrace.contracts.views import DeadLetterView, EndpointView, EventView, ModelView, RunPage, RunView, StageView
from millrace.ledger import dead_letters, endpoints, queues, uploads, wishes
from millrace.ledger.connect import open_database
from millrace.ledger.database import Database, Transaction
from millrace.ledger.journal import to_time
from millrace.ledger.migrating import migrate
from millrace.ledger.runs import STAGE_COLUMNS, encode, save_stages, stage_of
from millrace.ledger.state import StageState
from millrace.ledger.workers import live_workers

_RUN = (
    "run_id, tenant, pipeline, status, priority, labels, params, submitted_at, started_at, finished_at, stage, error, seq,"
    " cache, origin"
)


def open_ledger(url: str) -> Ledger:
    """Open the ledger and bring its schema up to date.

    Raises:
        Unavailable, Unauthorized, Corrupt, Conflict: With a remedy.
    """
    database = open_database(url)
    migrate(database)
    return Ledger(database)


@dataclass(frozen=True, slots=True)
class Written:
    """A run as its user wrote it.

    Attributes:
        spec: The pipeline; empty where a version submitted it that did not keep it.
    """

    view: RunView
    spec: dict[str, Any]
    seed: int


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
        accepted = self.database.transact(lambda tx: accept_run(tx, event))
        return self.run(event.tenant, accepted) if isinstance(accepted, str) else accepted

    def wish(self, event: Event) -> RunView:
        """Accept a wish to cancel, pause, resume or retry a run; the conductor does it soon after.

        Raises:
            NotFound: There is no such run.
            Conflict: Its state does not allow it.
        """
        self.database.transact(lambda tx: wishes.accept(tx, event))
        return self.run(event.tenant, event.subject)

    def stop_endpoint(self, tenant: str, name: str) -> EndpointView:
        """Advance the endpoint to a generation without a release; its servers unload it.

        Raises:
            NotFound: There is no such endpoint.
        """

        def work(tx: Transaction) -> None:
            rows = tx.rows(
                f"SELECT release_number FROM endpoints WHERE tenant = ? AND name = ?{tx.lock}", (tenant, name)
            )
            if rows and rows[0][0] != 0:
                endpoints.set_desired(tx, tenant, name, release=0, model=None, run_id="", owner="", now=time.time())

        self.database.transact(work)
        return self.endpoint(tenant, name)

    def note_upload(self, artifact: ArtifactRef) -> None:
        """Keep what a user uploaded until a run is given it, or for as long as the settings say."""
        self.database.transact(
            lambda tx: uploads.note_upload(tx, artifact.tenant, artifact.digest, now=time.time())
        )  # fmt: skip

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
        stages = self.database.read(f"SELECT {STAGE_COLUMNS} FROM stages WHERE run_id = ? ORDER BY position", (run_id,))
        views = tuple(_stage_view(stage_of(s), facts) for s in stages)
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

    def written(self, tenant: str, run_id: str) -> Written:
        """What a run was submitted with, to submit it again with changes. Raises NotFound."""
        view = self.run(tenant, run_id)
        rows = self.database.read("SELECT spec, graph FROM runs WHERE run_id = ?", (run_id,))
        spec, graph = json.loads(rows[0][0]), json.loads(rows[0][1])
        return Written(view=view, spec=spec, seed=int(graph["seed"]))

    def dead_letters(self, tenant: str, *, run_id: str = "", limit: int = 50) -> list[DeadLetterView]:
        """Tasks that were set aside after their last attempt, newest first."""
        return dead_letters.list_dead_letters(self.database, tenant, run_id=run_id, limit=limit)

    def models(self, tenant: str) -> list[ModelView]:
        """Released models, newest first."""
        return endpoints.list_models(self.database, tenant)

    def endpoints(self, tenant: str) -> list[EndpointView]:
        """All endpoints by name."""
        return endpoints.list_endpoints(self.database, tenant)

    def endpoint(self, tenant: str, name: str) -> EndpointView:
        """Return an endpoint.

        Raises:
            NotFound: There is no such endpoint; the message names the nearest.
        """
        return endpoints.find_endpoint(self.database, tenant, name)

    def workers(self, *, seen_within_s: float = 30.0) -> list[dict[str, Any]]:
        """Workers heard of lately: id, host, services, slots by class."""
        return [w._asdict() for w in live_workers(self.database, seen_after=time.time() - seen_within_s)]

    def check(self) -> None:
        """Raise Unavailable or Unauthorized unless the ledger answers."""
        self.database.read("SELECT version FROM schema_version")

    def close(self) -> None:
        self.database.close()


def accept_run(tx: Transaction, event: Event) -> RunView | str:
    """Accept a submission; return the new run, or the id of the one which already has its key. See `Ledger.submit`."""
    data = decode(event)
    assert isinstance(data, RunSubmitted)
    now = time.time()
    cache = [] if data.cache == "use" else [data.cache]
    content = digest_of([data.graph.model_dump(mode="json"), data.params, data.priority, data.labels, *cache])
    inserted = tx.run(
        "INSERT INTO runs (run_id, tenant, pipeline, priority, labels, params, graph, trace, idempotency_key,"
        " content_digest, submitted_at, spec, cache, origin, max_runs, status, seq, stage)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,'queued',0,'') ON CONFLICT DO NOTHING",
        (data.run_id, event.tenant, data.graph.pipeline, data.priority, json.dumps(data.labels, sort_keys=True),
         json.dumps(data.params), data.graph.model_dump_json(), json.dumps(data.trace), data.idempotency_key, content,
         now, json.dumps(data.spec), data.cache, encode(data.origin), data.graph.max_runs),
    )  # fmt: skip
    if not inserted:
        return _same_run(tx, event.tenant, data, content)
    stages = [StageState(name=spec.name, position=position) for position, spec in enumerate(data.graph.stages)]
    save_stages(tx, ((data.run_id, stage) for stage in stages))
    queues.put_inbox(tx, event, run_id=data.run_id, now=now)
    facts = {spec.name: {"kind": spec.kind, "implied": spec.implied} for spec in data.graph.stages}
    return RunView(
        run_id=data.run_id, tenant=event.tenant, pipeline=data.graph.pipeline, status="queued", priority=data.priority,
        labels=data.labels, params=data.params, submitted_at=_time(now), cache=data.cache, origin=data.origin,
        stages=tuple(_stage_view(stage, facts) for stage in stages),
    )  # fmt: skip


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


def _no_run(run_id: str) -> errors.NotFound:
    return errors.NotFound(f"There is no run {run_id!r}.", remedy="See `millrace runs`.", field="run_id")


def _run_view(row: Sequence[Any], stages: tuple[StageView, ...]) -> RunView:
    run_id, tenant, pipeline, status, priority, labels, params, submitted, started, finished, *rest = row
    stage, error, seq, cache, origin = rest
    if status == "queued":  # nor has it an end, if a retry was accepted that is still to be folded
        finished, error = None, None
    return RunView(
        run_id=run_id, tenant=tenant, pipeline=pipeline, status=status, priority=priority, labels=json.loads(labels),
        params=json.loads(params), submitted_at=_time(submitted), started_at=to_time(started),
        finished_at=to_time(finished), stage=stage, stages=stages, seq=seq, cache=cache,
        origin=None if origin is None else Origin.received_json(origin),
        error=None if error is None else ErrorInfo.received_json(error),
    )  # fmt: skip


def _stage_view(stage: StageState, facts: dict[str, dict[str, Any]]) -> StageView:
    fact = facts.get(stage.name, {})
    return StageView(
        name=stage.name, kind=fact.get("kind", ""), status=stage.status, implied=fact.get("implied", False),
        num_tasks=stage.num_tasks, num_done=stage.num_done, attempts=stage.attempts,
        num_cached=stage.num_cached,
        started_at=to_time(stage.started_at), finished_at=to_time(stage.finished_at),
        outputs=stage.outputs, error=stage.error,
    )  # fmt: skip


def _time(seconds: float) -> Any:
    return to_time(seconds)


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
