"""Garbage collection, asked of SQLite with a directory and of PostgreSQL with a real S3 service."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, Ref
from millrace.ledger.collections import LEASE_S, read_collection, tenants_due
from millrace.ledger.database import Database
from millrace.ledger.ledger import open_ledger
from millrace.ledger.uploads import is_kept, note_upload
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.artifacts import refresh_artifact, write_manifest
from millrace.store.connect import open_store
from millrace.store.pages import write_pages
from millrace_conductor import collecting
from millrace_conductor.collecting import Collector, Policy, Report, Say, policy_of

DAY_S = 86400.0
FUTURE_S = 3600.0
"""Added to a store's clock, so that what was just written is older than the grace."""


class AheadStore:
    """A store whose clock is ahead of its blobs' ages; all else is the store's own."""

    def __init__(self, store: Store, ahead_s: float = FUTURE_S) -> None:
        self._store, self._ahead_s, self.tenant = store, ahead_s, store.tenant

    def clock(self) -> float:
        return self._store.clock() + self._ahead_s

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


class Killed(BaseException):
    """The collector's process dies here."""


@dataclass(slots=True)
class Place:
    """A tenant's ledger and store, and what the tests ask of them."""

    database: Database
    store: Store
    folder: Path
    now: float

    def collector(self, *, owner: str = "con_1", say: Say | None = None, **policy: float) -> Collector:
        made = policy_of(Settings(home=self.folder, gc_grace_s=60.0))
        made = Policy(grace_s=60.0, retention=replace(made.retention, **policy))
        return Collector(
            self.database, AheadStore(self.store), policy=made, folder=self.folder, owner=owner,  # type: ignore[arg-type]  # delegates
            say=say or (lambda _phase, _how_far: None), clock=lambda: self.now,
        )  # fmt: skip

    def collect(self, *, runs_days: float = 30.0, cache_days: float = 30.0) -> Report:
        return self.collector(runs_days=runs_days, cache_days=cache_days).collect()

    def artifact(self, data: bytes = b"", **meta: str) -> ArtifactRef:
        return write_manifest(self.store, "model", {"file": data or os.urandom(16)}, meta=meta)

    def holds(self, ref: ArtifactRef) -> bool:
        return refresh_artifact(self.store, ref.digest)

    def run(
        self, run_id: str, *, status: str = "running", finished_at: float | None = None, params: str = "{}"
    ) -> None:
        self.write(
            "INSERT INTO runs (run_id, tenant, pipeline, status, priority, labels, params, graph, trace, idempotency_key,"
            " content_digest, seq, submitted_at, finished_at, stage)"
            " VALUES (?,'default','p',?,0,'{}',?,'{}','{}','','',0,?,?,'')",
            run_id, status, params, self.now, finished_at,
        )  # fmt: skip

    def stage(self, run_id: str, *, plan: ArtifactRef | None = None, outputs: ArtifactRef | None = None) -> None:
        told = None if outputs is None else f'{{"artifacts": {{"model": {outputs.to_json()}}}}}'
        self.write(
            "INSERT INTO stages (run_id, name, position, status, phase, round, num_tasks, num_done, attempts, plan, outputs)"
            " VALUES (?,'s',0,'running','work',0,1,0,0,?,?)",
            run_id, plan and plan.to_json(), told,
        )  # fmt: skip

    def task(
        self, run_id: str, *, phase: str = "work", status: str = "succeeded", idx: int = 0, result: str | None = None
    ) -> None:
        self.write(
            "INSERT INTO tasks (run_id, stage, round, phase, idx, tenant, status, fence, failures, nonce, worker, service,"
            " resource_class, priority, ready_at, result) VALUES (?,'s',0,?,?,'default',?,1,0,'','','x','cpu',0,0,?)",
            run_id, phase, idx, status, result,
        )  # fmt: skip

    def event(self, subject: str, seq: int, data: str = "{}", *, type_: str = "x.v1", refused: str = "") -> None:
        self.write(
            "INSERT INTO events (event_id, tenant, subject, seq, type, source, time, data, refused)"
            " VALUES (?,'default',?,?,?,'s',?,?,?)",
            f"{subject}.{seq}", subject, seq, type_, 0.0, data, refused,
        )  # fmt: skip

    def write(self, sql: str, *parameters: object) -> None:
        self.database.transact(lambda tx: tx.run(sql, parameters))

    def count(self, table: str) -> int:
        return int(self.database.read(f"SELECT COUNT(*) FROM {table}")[0][0])


@pytest.fixture(params=["embedded", pytest.param("production", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    is_embedded = request.param == "embedded"
    settings: Settings = request.getfixturevalue("embedded_settings" if is_embedded else "s3_settings")
    url = settings.database if is_embedded else str(request.getfixturevalue("postgres_database_url"))
    database = open_ledger(url).database
    yield Place(database, open_store(settings), tmp_path / "gc", time.time())
    database.close()


def test_what_nothing_names_goes_and_is_counted(place: Place) -> None:
    garbage = place.artifact()
    report = place.collect()
    assert not place.holds(garbage)
    assert report.removed[0] == 2
    assert report.removed[1] > 16
    assert list(place.store.list_blobs()) == []


def test_what_is_younger_than_the_grace_stays(place: Place) -> None:
    young = place.artifact()
    collector = place.collector()
    collector._store = place.store
    assert collector.collect().kept == {"young": (2, sum(b.size_bytes for b in place.store.list_blobs()))}
    assert place.holds(young)


def _by_stage_outputs(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1", status="succeeded", finished_at=0.0)
    place.stage("run_1", outputs=ref)


def _by_plan(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1")
    place.stage("run_1", plan=ref)


def _by_params(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1", params=f'{{"data": {ref.to_json()}}}')


def _by_result(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1")
    place.task("run_1", result=f'{{"deep": [{{"in": "sha256:{ref.digest}!"}}]}}')


def _by_event(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1")
    place.event("run_1", 1, ref.to_json())


def _by_inbox(place: Place, ref: ArtifactRef) -> None:
    place.write("INSERT INTO inbox (event_id, run_id, event, received_at) VALUES ('e','r',?,0)", ref.to_json())


def _by_outbox(place: Place, ref: ArtifactRef) -> None:
    place.write("INSERT INTO outbox (id, kind, body, owner, created_at) VALUES ('o','command',?,'c',0)", ref.to_json())


def _by_release(place: Place, ref: ArtifactRef) -> None:
    place.write(
        "INSERT INTO releases (tenant, endpoint, release_number, model, run_id, metrics, released_at)"
        " VALUES ('default','e',1,?,'r','{}',0)",
        ref.to_json(),
    )


def _by_answer(place: Place, ref: ArtifactRef) -> None:
    _answer(place, ref, used_at=place.now)


def _by_upload(place: Place, ref: ArtifactRef) -> None:
    place.database.transact(lambda tx: note_upload(tx, "default", ref.digest, now=place.now - 29 * DAY_S))


def _by_head(place: Place, ref: ArtifactRef) -> None:
    place.run("run_1")
    _head(place, "run_1", ref)


def _by_ref(place: Place, ref: ArtifactRef) -> None:
    place.store.write_ref("mine", Ref(target={"at": ref.digest}, generation=1, nonce="n"), expected=None)


def _by_another(place: Place, ref: ArtifactRef) -> None:
    _by_ref(place, place.artifact(source=ref.digest))


def _by_a_row_of_pages(place: Place, ref: ArtifactRef) -> None:
    _by_plan(place, write_pages(place.store, "plan", [{"shard": ref.digest}]))


def _answer(place: Place, ref: ArtifactRef, *, used_at: float) -> None:
    place.write(
        "INSERT INTO cache (cache_key, base, tenant, answer, run_id, created_at, used_at) VALUES ('k','b','default',?,'r',0,?)",
        ref.to_json(), used_at,
    )  # fmt: skip
    place.write(
        "INSERT INTO cache_bases (base, tenant, kind, phase, fields, created_at) VALUES ('b','default','k','plan','{}',0)"
    )


def _head(place: Place, run_id: str, ref: ArtifactRef) -> None:
    target = {"checkpoint": ref.model_dump(mode="json"), "outcome": None, "attempt_id": "a", "nonce": "n"}
    place.store.write_ref(f"tasks/{run_id}/s/work0/0", Ref(target=target, generation=1, nonce="n"), expected=None)


ROOTS = [
    _by_stage_outputs, _by_plan, _by_params, _by_result, _by_event, _by_inbox, _by_outbox, _by_release, _by_answer,
    _by_upload, _by_head, _by_ref, _by_another, _by_a_row_of_pages,
]  # fmt: skip

COMPATIBLE = [_by_stage_outputs, _by_inbox, _by_outbox, _by_release, _by_answer, _by_upload, _by_ref]
"""Those that make no run of their own but the first."""


def test_what_is_named_anywhere_stays_with_all_its_files(place: Place) -> None:
    named = []
    for name in ROOTS[:1] + ROOTS[5:10] + ROOTS[11:13]:
        named.append(place.artifact())
        if name is not _by_another:
            name(place, named[-1])
    garbage = place.artifact()
    place.collect()
    assert [place.holds(ref) for ref in named] == [
        name is not _by_another for name in ROOTS[:1] + ROOTS[5:10] + ROOTS[11:13]
    ]
    assert not place.holds(garbage)


@pytest.mark.parametrize("name", ROOTS)
def test_each_root_keeps_an_artifact_by_itself(embedded: Place, name: Callable[[Place, ArtifactRef], None]) -> None:
    ref = embedded.artifact()
    name(embedded, ref)
    embedded.collect()
    assert embedded.holds(ref)


@pytest.fixture
def embedded(embedded_settings: Settings, tmp_path: Path) -> Iterator[Place]:
    """For claims that are not about any one database or store."""
    database = open_ledger(embedded_settings.database).database
    yield Place(database, open_store(embedded_settings), tmp_path / "gc", time.time())
    database.close()


def test_ended_runs_lose_events_and_tasks_but_keep_outputs(place: Place) -> None:
    output, plan, result = place.artifact(), place.artifact(), place.artifact()
    for run_id, finished_at in (("run_old", place.now - 31 * DAY_S), ("run_new", place.now - 29 * DAY_S)):
        place.run(run_id, status="failed", finished_at=finished_at)
        place.task(run_id)
        place.event(run_id, 1)
    place.run("run_open")
    place.event("run_open", 1)
    place.stage("run_old", plan=plan, outputs=output)
    place.task("run_old", idx=1, result=f'"{result.digest}"')
    report = place.collect()
    assert report.trimmed == {
        "answers": 0, "uploads": 0, "dead_letters": 0, "runs": 1, "events": 1, "tasks": 2,
    }  # fmt: skip
    assert place.count("runs") == 3
    assert [place.holds(ref) for ref in (output, plan, result)] == [True, False, False]
    assert place.collect().trimmed["runs"] == 0


def test_zero_days_keep_everything(embedded: Place) -> None:
    embedded.run("run_old", status="failed", finished_at=0.0)
    embedded.event("run_old", 1)
    _answer(embedded, embedded.artifact(), used_at=0.0)
    embedded.collect(runs_days=0, cache_days=0)
    assert (embedded.count("events"), embedded.count("cache")) == (1, 1)


def test_unused_answers_old_uploads_and_dead_letters_go(place: Place) -> None:
    refs = [place.artifact(), place.artifact()]
    _answer(place, refs[0], used_at=place.now - 31 * DAY_S)
    place.database.transact(lambda tx: note_upload(tx, "default", refs[1].digest, now=place.now - 31 * DAY_S))
    place.write(
        "INSERT INTO dead_letters (id, tenant, run_id, stage, reason, evidence, died_at)"
        " VALUES ('d','default','r','s','poison','{}',?)",
        place.now - 91 * DAY_S,
    )
    trimmed = place.collect().trimmed
    assert (trimmed["answers"], trimmed["uploads"], trimmed["dead_letters"]) == (1, 1, 1)
    assert place.count("cache_bases") == 0
    assert not any(map(place.holds, refs))


def test_an_upload_that_a_run_was_given_outlives_its_own_age(embedded: Place) -> None:
    ref = embedded.artifact()
    embedded.database.transact(lambda tx: note_upload(tx, "default", ref.digest, now=0.0))
    _by_params(embedded, ref)
    embedded.collect()
    assert embedded.holds(ref)


def test_the_latest_event_of_an_endpoint_stays_for_the_next_to_be_numbered_after(place: Place) -> None:
    for seq in (1, 2, 3):
        place.event("endpoint/e", seq)
    place.collect()
    assert place.database.read("SELECT seq FROM events") == [(3,)]


@pytest.mark.parametrize(
    ("status", "days", "stays"), [("succeeded", 2, False), ("failed", 2, True), ("failed", 31, False)]
)
def test_heads_of_runs_that_nobody_can_retry_go(place: Place, status: str, days: int, stays: bool) -> None:
    checkpoint = place.artifact()
    place.run("run_1", status=status, finished_at=place.now - days * DAY_S)
    _head(place, "run_1", checkpoint)
    assert place.collect().heads == (0 if stays else 1)
    assert place.holds(checkpoint) is stays


def test_the_index_of_an_open_merge_is_kept_and_of_one_that_is_over_is_not(embedded: Place) -> None:
    embedded.run("run_1")
    embedded.task("run_1", result='{"loss": 1}')
    embedded.task("run_1", phase="merge", status="running")
    index = write_pages(embedded.store, "plan", [{"loss": 1}])
    embedded.collect()
    assert embedded.holds(index)
    embedded.write("UPDATE tasks SET status = 'succeeded'")
    embedded.collect()
    assert not embedded.holds(index)


def test_what_a_refused_event_names_goes(embedded: Place) -> None:
    ref = embedded.artifact()
    embedded.run("run_1")
    embedded.event("run_1", 1, ref.to_json(), refused="stale")
    embedded.collect()
    assert not embedded.holds(ref)


def test_a_survey_counts_the_same_and_deletes_nothing(place: Place) -> None:
    garbage, named = place.artifact(), place.artifact()
    _by_ref(place, named)
    place.run("run_old", status="failed", finished_at=0.0)
    surveyed = place.collector().survey()
    assert place.holds(garbage)
    assert place.database.read("SELECT trimmed FROM runs") == [(0,)]
    collected = place.collect()
    assert surveyed.removed == collected.removed == (2, surveyed.removed[1])
    assert surveyed.kept == collected.kept
    assert surveyed.trimmed["runs"] == collected.trimmed["runs"] == 1


# --- beside others ------------------------------------------------------------------------------------------------------


def test_one_collects_at_a_time_and_a_silent_one_is_replaced(place: Place) -> None:
    tried: list[str] = []

    def intrude(_phase: str, _how_far: str) -> None:
        if tried:
            return
        with pytest.raises(errors.Conflict, match="con_1"):
            place.collector(owner="con_2").collect()
        place.now += LEASE_S + 1  # con_1 seems dead
        tried.append(place.collector(owner="con_2").collect().tenant)

    place.artifact()
    with pytest.raises(errors.Conflict, match="took over"):
        place.collector(say=intrude).collect()
    assert tried == ["default"]
    found = read_collection(place.database, "default")
    assert found is not None
    assert (found.owner, found.phase) == ("con_2", "done")


def test_a_collection_is_due_once_an_interval(embedded: Place) -> None:
    def due(now: float) -> list[str]:
        return tenants_due(embedded.database, own="default", now=now, interval_s=DAY_S)

    embedded.run("run_1")
    embedded.write("UPDATE runs SET tenant = 'other'")
    assert due(embedded.now) == ["default", "other"]
    embedded.collect()
    assert due(embedded.now) == ["other"]
    assert due(embedded.now + DAY_S) == ["default", "other"]


@pytest.mark.parametrize("phase", ["mark", "expand", "sweep"])
def test_a_killed_collector_is_followed_by_one_that_goes_on(place: Place, phase: str) -> None:
    named, garbage = place.artifact(), place.artifact()
    _by_stage_outputs(place, named)

    def die(now: str, _how_far: str) -> None:
        if now == phase:
            raise Killed

    with pytest.raises(Killed):
        place.collector(say=die).collect()
    before = read_collection(place.database, "default")
    place.collector(owner="con_2").collect()
    after = read_collection(place.database, "default")
    assert before is not None
    assert after is not None
    assert (before.id, before.untouched_since) == (after.id, after.untouched_since)
    assert (place.holds(named), place.holds(garbage)) == (True, False)
    assert list(place.folder.rglob("*.marks*")) == []


def test_without_the_mark_set_marking_begins_anew(place: Place) -> None:
    named = place.artifact()

    def die(now: str, _how_far: str) -> None:
        if now == "sweep":
            raise Killed

    with pytest.raises(Killed):
        place.collector(say=die).collect()
    for path in place.folder.rglob("*.marks*"):
        path.unlink()
    late = place.artifact()
    _by_stage_outputs(place, late)
    place.collector(owner="con_2").collect()
    assert (place.holds(named), place.holds(late)) == (False, True)


@pytest.mark.parametrize("phase", ["mark", "expand", "sweep"])
def test_a_run_that_is_accepted_while_a_collection_goes_on_finds_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(collecting, "BATCH", 1)
    settings = Settings(home=tmp_path, gc_grace_s=60.0)
    place = Place(open_ledger(settings.database).database, open_store(settings), tmp_path / "gc", time.time())
    given, garbage = place.artifact(), [place.artifact() for _ in range(5)]
    place.run("run_old", params=f'"{place.artifact().digest}"')
    _age(tmp_path / "store", place.now - 100)
    answers: list[bool] = []

    def submit(now: str, _how_far: str) -> None:
        if now == phase and not answers:  # as the gateway does: it refuses what is gone, and touches what is old
            answers.append(refresh_artifact(place.store, given.digest))
            if answers[0]:
                place.run("run_new", params=f'"{given.digest}"')

    collector = place.collector(say=submit)
    collector._store = place.store
    collector.collect()
    assert answers == [place.holds(given)]
    assert answers[0] or phase == "sweep"
    assert not any(map(place.holds, garbage))


def _age(folder: Path, modified_at: float) -> None:
    for path in folder.rglob("?" * 64):
        os.utime(path, (modified_at, modified_at))


def test_an_upload_is_kept_without_touching_it_for_as_long_as_a_grace_is_left(embedded: Place) -> None:
    embedded.database.transact(lambda tx: note_upload(tx, "default", "a" * 64, now=0.0))

    def kept(now: float, days: float) -> bool:
        return is_kept(embedded.database, "default", "a" * 64, now=now, days=days, grace_s=60.0)

    assert kept(DAY_S - 61, 1)
    assert not kept(DAY_S - 59, 1)
    assert kept(1e9, 0)
