"""The history checker sees each kind of harm that is done to a factory at rest, and nothing where none was done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from millrace.contracts.artifacts import Ref
from millrace.testing.checker import check_all
from millrace.testing.history import Violation
from millrace.testing.referenced import check_manifests, manifests_of
from millrace.testing.simulation.broker import DEAD, Letter, MemoryBus
from millrace.testing.simulation.clock import Clock, virtual_time
from millrace.testing.simulation.database import MemoryDatabase
from millrace.testing.simulation.process import Process
from millrace.testing.simulation.run import PATIENCE_S, quiet
from millrace.testing.simulation.world import World

SEED = 5
ENDED_WELL = "SELECT run_id FROM runs WHERE status = 'succeeded' ORDER BY run_id LIMIT 1"

GONE = json.dumps({"artifacts": {"model": {"digest": "0" * 64, "type": "model", "tenant": "default"}}})


@dataclass(frozen=True, slots=True)
class Rest:
    """A world at rest, with a ledger of the test's own to do harm to."""

    world: World
    database: MemoryDatabase

    def found(self, *, accepted: tuple[str, ...] = ()) -> list[Violation]:
        bus = MemoryBus(self.world.broker, Process(self.world.clock, "checker"))
        return check_all(self.database, bus, self.world.store_of, accepted=accepted)

    def change(self, sql: str) -> None:
        assert self.database.transact(lambda tx: tx.run(sql)), "it changed nothing"


@pytest.fixture(scope="module")
def world() -> World:
    clock = Clock()
    with quiet(), virtual_time(clock, SEED):
        world = World(clock, SEED, focus=None, num_runs=40)
        world.run(PATIENCE_S)
    return world


@pytest.fixture
def rest(world: World) -> Iterator[Rest]:
    with closing(MemoryDatabase(schema=world.database.dump())) as database:
        yield Rest(world, database)


def test_a_world_at_rest_is_in_order(rest: Rest) -> None:
    assert rest.found() == []


def test_a_run_that_was_accepted_and_is_gone_is_lost(rest: Rest) -> None:
    assert rest.found(accepted=("run_gone",)) == [
        Violation("lost", "run_gone", "its submission was accepted, and the ledger does not know it")
    ]


HARMS = {
    "a run that nothing moves": ("stuck", f"UPDATE runs SET status = 'running' WHERE run_id = ({ENDED_WELL})"),
    "a gap in a run's events": ("lost", f"DELETE FROM events WHERE seq = 2 AND subject = ({ENDED_WELL})"),
    "an end that is said twice": (
        "doubled",
        "INSERT INTO events SELECT event_id || 'b', tenant, subject, seq + 1, type, source, time, data, refused FROM events"
        f" WHERE type = 'run.finished.v1' AND subject = ({ENDED_WELL})",
    ),
    "an event that nobody could apply": ("lost", f"UPDATE events SET refused = 'why' WHERE seq = 3 AND subject = ({ENDED_WELL})"),
    "another end than the journal's": ("wrong", f"UPDATE runs SET status = 'cancelled' WHERE run_id = ({ENDED_WELL})"),
    "a failure without a reason": ("lost", "UPDATE runs SET error = NULL WHERE status = 'failed'"),
    "a result of another fence": ("wrong", "UPDATE tasks SET fence = fence + 1 WHERE status = 'succeeded'"),
    "a result of another holder": ("wrong", "UPDATE tasks SET nonce = 'x' WHERE status = 'succeeded'"),
    "a slot that nobody frees": ("stuck", "UPDATE tasks SET status = 'running' WHERE status = 'cancelled'"),
    "a task without a result": ("wrong", f"UPDATE tasks SET status = 'pending' WHERE run_id = ({ENDED_WELL})"),
    "a task that counts twice": ("doubled", "UPDATE stages SET num_done = num_done + 1 WHERE num_tasks > 1"),
    "a stage without outputs": ("missing", "UPDATE stages SET outputs = NULL WHERE status = 'succeeded'"),
    "a stage that goes on after its run": ("stuck", "UPDATE stages SET status = 'running' WHERE status = 'skipped'"),
    "a release that happened twice": (
        "doubled",
        "INSERT INTO releases SELECT tenant, endpoint, release_number + 100, model, run_id, metrics, released_at FROM releases",
    ),
    "an endpoint behind its ref": ("wrong", "UPDATE endpoints SET generation = generation + 1"),
    "a word that was never sent": ("stuck", "INSERT INTO outbox VALUES ('x', 'batch', '[]', '', 0)"),
    "a wish that was never heard": ("stuck", "INSERT INTO inbox VALUES ('x', 'r', '{}', 0)"),
    "a timer of an ended run": ("stuck", f"INSERT INTO timers VALUES ('x', ({ENDED_WELL}), 0, '{{}}')"),
    "an output that is not there": ("missing", f"UPDATE stages SET outputs = '{GONE}' WHERE status = 'succeeded'"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "sql"), HARMS.values(), ids=HARMS)
def test_harm_to_the_ledger_is_seen(rest: Rest, kind: str, sql: str) -> None:
    rest.change(sql)
    assert kind in {violation.kind for violation in rest.found()}


def test_a_blob_that_rotted_away_is_missing_where_it_is_named(rest: Rest) -> None:
    store = rest.world.stores["default"]
    ((outputs,), *_) = rest.database.read(
        "SELECT outputs FROM stages s JOIN runs r ON r.run_id = s.run_id"
        " WHERE r.tenant = 'default' AND outputs LIKE '%digest%'"
    )
    digest = next(manifests_of(json.loads(outputs)))
    kept = store.get_bytes(digest)
    store.delete_blobs([digest], untouched_since=float("inf"))
    assert {v.about for v in rest.found() if v.kind == "missing"} == {digest}
    store.put_bytes(kept)


def test_a_manifest_that_nobody_names_yet_must_be_whole_too(world: World) -> None:
    store = world.stores["default"]
    digests = [blob.digest for blob in store.list_blobs()]
    named = json.loads(
        next(b for d in digests if (b := store.get_bytes(d)).startswith(b'{"files":[{') and b"weights" in b)
    )
    gone = named["files"][0]["digest"]
    kept = store.get_bytes(gone)
    store.delete_blobs([gone], untouched_since=float("inf"))
    assert [v for v in check_manifests(store, digests) if gone[:12] in v.what]
    store.put_bytes(kept)


def test_a_head_with_a_lower_fence_than_its_result_is_wrong(rest: Rest) -> None:
    rest.change(
        "UPDATE tasks SET fence = 9 WHERE rowid IN"
        " (SELECT rowid FROM tasks WHERE status = 'succeeded' AND tenant = 'default' LIMIT 1)"
    )
    ((run_id, stage, round_, phase, index),) = rest.database.read(
        "SELECT run_id, stage, round, phase, idx FROM tasks WHERE fence = 9"
    )
    store, name = rest.world.stores["default"], f"tasks/{run_id}/{stage}/{phase}{round_}/{index}"
    before = store.read_ref(name)
    store.delete_ref(name)
    store.write_ref(name, Ref(target={}, generation=9, fence=8, nonce="n"), expected=None)
    assert [v for v in rest.found() if "has fence 8, its task's result 9" in v.what]
    store.delete_ref(name)
    if before is not None:
        store.write_ref(name, before, expected=None)


def test_a_message_that_waits_and_a_dead_letter_are_seen(rest: Rest) -> None:
    queue = rest.world.broker.queue("events.conductor.v1")
    letter = Letter("left")
    queue.ready.append(letter)
    rest.world.broker.bury("commands", letter)
    found = {(v.kind, v.about) for v in rest.found() if v.about in (queue.name, "commands")}
    queue.ready.clear()
    rest.world.broker.queue(DEAD).ready.clear()
    assert found == {("stuck", queue.name), ("lost", "commands")}
