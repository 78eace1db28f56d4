"""The cache on both databases: hits in bulk, misses that are right, one computation for many, nobody left waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cached_stages import Cacher, cached, failure, graph, reading, success
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import CancelRequested, make_event
from millrace.contracts.pipelines import Binding, Graph
from millrace.store import Store
from millrace.store.artifacts import read_manifest, write_manifest
from millrace.store.local import LocalStore
from millrace.store.pages import write_pages
from millrace_conductor.settling import repair
from millrace_conductor.verifying import Verifier


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store", tenant="default")


@pytest.fixture
def cacher(ledger_url: str, store: Store) -> Iterator[Cacher]:
    made = Cacher(ledger_url, store)
    yield made
    made.ledger.close()


def artifact(store: Store, text: str) -> ArtifactRef:
    return write_manifest(store, "any", {"x.txt": text.encode()}, meta={})


def test_an_unchanged_run_is_answered_without_a_command(cacher: Cacher) -> None:
    first = cacher.start(graph())
    assert cacher.work() == 1
    again = cacher.start(graph())
    assert (cacher.commands(), cacher.status(again)) == ([], "succeeded")
    (stage,) = cacher.ledger.run("default", again).stages
    assert (stage.attempts, stage.num_cached) == (0, 1)
    finished = [e for e in cacher.ledger.events("default", again) if e.type == "stage.finished.v1"]
    assert [e.data["cached"] for e in finished] == [True]
    assert cacher.ledger.run("default", first).stages[0].num_cached == 0


def test_a_stage_of_1000_tasks_is_answered_in_bulk_and_in_two_seconds(cacher: Cacher) -> None:
    plan = write_pages(cacher.store, "plan", [{"n": n} for n in range(1000)])
    answers = {"a": {"plan": plan, "num_tasks": 1000}}
    cacher.start(graph())
    assert cacher.work(answers) == 1002
    began = time.monotonic()
    again = cacher.start(graph())
    assert time.monotonic() - began < 2
    assert (cacher.commands(), cacher.status(again)) == ([], "succeeded")
    assert cacher.ledger.run("default", again).stages[0].num_cached == 1002


CHANGES: dict[str, Callable[[], Graph]] = {
    "config": lambda: graph(cached(config={"rate": 2})),
    "a field more": lambda: graph(cached(config={"rate": 1, "depth": 0})),
    "seed": lambda: graph(seed=1),
    "environment": lambda: graph(cached(env={"MODE": "x"})),
    "an input": lambda: graph(cached(inputs={"data": Binding(artifact=ArtifactRef(digest="e" * 64, type="any"))})),
    "a function's code": lambda: graph(cached(source="e" * 64)),
    "a function's name": lambda: graph(cached(name_of="g")),
    "an output": lambda: graph(cached(outputs={"report": "report"})),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_anything_is_a_miss(cacher: Cacher, what: str) -> None:
    cacher.start(graph())
    cacher.work()
    cacher.start(CHANGES[what]())
    assert cacher.work() == 1


def test_other_code_is_a_miss_and_the_command_asks_for_it(cacher: Cacher) -> None:
    cacher.start(graph())
    cacher.work()
    cacher.code = {("functions", "function"): "v2"}
    cacher.start(graph())
    (command,) = cacher.commands()
    assert command.code_digest == "v2"


def test_workers_that_disagree_about_code_get_no_answers_and_give_none(cacher: Cacher) -> None:
    cacher.code = {("functions", "function"): ""}
    for _ in range(2):
        cacher.start(graph())
        assert [c.code_digest for c in cacher.commands()] == [""]


def test_a_run_may_look_away_or_write_only(cacher: Cacher) -> None:
    cacher.start(graph(), cache="off")
    assert cacher.work() == 1
    cacher.start(graph(), cache="refresh")
    assert cacher.work() == 1
    cacher.start(graph(), cache="refresh")
    assert cacher.work() == 1
    cacher.start(graph())
    assert cacher.work() == 0


def test_code_that_changes_between_look_and_command_is_looked_up_anew(cacher: Cacher) -> None:
    cacher.slots = 0
    cacher.start(graph())
    cacher.slots, cacher.code = 9, {("functions", "function"): "v2"}
    cacher.settle()
    assert [c.code_digest for c in cacher.commands()] == ["v2"]


def test_100_identical_runs_compute_once(cacher: Cacher) -> None:
    run_ids = [cacher.submit(graph()) for _ in range(100)]
    cacher.settle()
    assert cacher.work() == 1
    assert cacher.statuses(run_ids) == {"succeeded"}
    assert cacher.ledger.database.read("SELECT COUNT(*) FROM computations") == [(0,)]


def test_a_failure_is_not_shared_the_next_one_computes(cacher: Cacher) -> None:
    first, second, third = (cacher.start(graph()) for _ in range(3))
    (command,) = cacher.commands()
    cacher.settle(failure(command))
    (heir,) = cacher.commands()
    assert (cacher.status(first), heir.run_id) == ("failed", second)
    cacher.settle(success(heir))
    assert cacher.statuses([second, third]) == {"succeeded"}


def test_cancelling_who_computes_hands_the_work_over_and_the_last_one_stops_it(cacher: Cacher) -> None:
    first, second = cacher.start(graph()), cacher.start(graph())
    for run_id in (first, second):
        (command,) = cacher.commands()
        assert command.run_id == run_id
        cacher.settle(make_event(CancelRequested(run_id=run_id), source="client", subject=run_id))
    assert cacher.commands() == []
    assert cacher.statuses([first, second]) == {"cancelled"}
    assert cacher.ledger.database.read("SELECT COUNT(*) FROM computations") == [(0,)]


def test_an_heir_that_was_cancelled_passes_it_on(cacher: Cacher) -> None:
    first, second, third = (cacher.start(graph()) for _ in range(3))
    events = [make_event(CancelRequested(run_id=i), source="client", subject=i) for i in (second, first)]
    cacher.settle(*events)
    assert [c.run_id for c in cacher.commands()][-1] == third


def test_a_computation_takes_the_highest_priority_of_those_who_wait(cacher: Cacher) -> None:
    cacher.slots = 0
    cacher.start(graph(), priority=1)
    cacher.start(graph(), priority=50)
    found = cacher.ledger.database.read("SELECT status, priority FROM tasks ORDER BY run_id")
    assert found == [("pending", 50), ("subscribed", 50)]


def test_who_waits_for_nobody_is_freed(cacher: Cacher) -> None:
    first, second = cacher.start(graph()), cacher.start(graph())
    database = cacher.ledger.database
    database.transact(lambda tx: tx.run("UPDATE tasks SET status = 'paused' WHERE run_id = ?", (first,)))
    assert repair(database, conductor="con", now=1.0) == 1
    cacher.settle()
    assert [c.run_id for c in cacher.commands()] == [first, second]
    database.transact(lambda tx: tx.run("DELETE FROM computations"))
    third = cacher.start(graph())
    database.transact(lambda tx: tx.run("DELETE FROM computations"))
    database.transact(lambda tx: tx.run("UPDATE tasks SET status = 'subscribed' WHERE run_id = ?", (third,)))
    assert repair(database, conductor="con", now=1.0) == 1
    assert repair(cacher.ledger.database, conductor="con", now=1.0) == 1  # told again until it has heard


def test_an_answer_whose_blob_is_gone_is_a_miss(cacher: Cacher, tmp_path: Path) -> None:
    made = artifact(cacher.store, "made")
    answers = {"a": {"artifacts": {"result": made}}}
    cacher.start(graph())
    cacher.work(answers)
    again = cacher.start(graph())
    assert (cacher.commands(), cacher.status(again)) == ([], "succeeded")
    (blob,) = (entry.digest for entry in read_manifest(cacher.store, made.digest).files)
    next((tmp_path / "store").rglob(blob)).unlink()
    cacher.verifier = Verifier(lambda _: cacher.store)
    cacher.start(graph())
    assert cacher.work(answers) == 1


def test_an_input_that_changed_is_a_miss_downstream_alone(cacher: Cacher) -> None:
    first, second = artifact(cacher.store, "1"), artifact(cacher.store, "2")
    pipeline = graph(cached("a"), reading("b", "result", "a"))
    cacher.start(pipeline)
    cacher.work({"a": {"artifacts": {"result": first}}})
    cacher.start(pipeline, cache="refresh")
    assert cacher.work({"a": {"artifacts": {"result": second}}}) == 2
    cacher.start(pipeline)
    assert cacher.work() == 0


def test_an_artifact_that_a_reader_finds_lost_is_made_again(cacher: Cacher) -> None:
    made = artifact(cacher.store, "made")
    pipeline = graph(cached("a"), reading("b", "result", "a"))
    run_id = cacher.start(pipeline)
    (first,) = cacher.commands()
    cacher.settle(success(first, artifacts={"result": made}))
    (reader,) = cacher.commands()
    cacher.settle(failure(reader, code="corrupt", retryable=True, digest=made.digest))
    (again,) = cacher.commands()
    assert (again.stage, again.fence) == ("a", 2)
    cacher.settle(success(again, artifacts={"result": made}))
    (reader,) = cacher.commands()
    assert (reader.stage, reader.fence) == ("b", 2)
    cacher.settle(success(reader))
    assert cacher.status(run_id) == "succeeded"


def test_what_is_lost_again_and_again_ends_its_run_in_words(cacher: Cacher) -> None:
    made = artifact(cacher.store, "made")
    run_id = cacher.start(graph(cached("a"), reading("b", "result", "a")))
    for _ in range(20):
        for command in cacher.commands():
            lost = failure(command, code="not_found", digest=made.digest)
            cacher.settle(success(command, artifacts={"result": made}) if command.stage == "a" else lost)
    run = cacher.ledger.run("default", run_id)
    assert run.error is not None
    assert (run.status, "4 times" in run.error.message) == ("failed", True)


def test_a_lost_plan_is_made_again_with_all_its_tasks(cacher: Cacher) -> None:
    plan = write_pages(cacher.store, "plan", [{"n": n} for n in range(3)])
    run_id = cacher.start(graph())
    (first,) = cacher.commands()
    cacher.settle(success(first, plan=plan, num_tasks=3))
    one, two, _ = cacher.commands()
    cacher.settle(success(one), failure(two, code="not_found", digest=plan.digest))
    assert cacher.work({"a": {"plan": plan, "num_tasks": 3}}) == 1 + 2 + 1  # the first task's answer was kept
    assert cacher.status(run_id) == "succeeded"


def test_a_lost_input_that_nothing_makes_is_told_in_words(cacher: Cacher) -> None:
    given = artifact(cacher.store, "given")
    run_id = cacher.start(graph(cached(inputs={"data": Binding(artifact=given)})))
    (command,) = cacher.commands()
    cacher.settle(failure(command, code="corrupt", retryable=True, digest=given.digest))
    error = cacher.ledger.run("default", run_id).error
    assert error is not None
    assert "store it again" in error.remedy
