"""What both databases must do: accept once, fold once, keep order, survive concurrent writers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import CancelRequested, Event, RunFinished, RunSubmitted, make_event
from millrace.contracts.ids import new_id, new_run_id
from millrace.contracts.pipelines import Binding, Graph, GraphStage
from millrace.ledger import journal, lanes, queues, tasks
from millrace.ledger.database import Transaction
from millrace.ledger.endpoints import set_desired
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.ledger.queues import Outgoing
from millrace.ledger.state import TaskKey, TaskState
from servers.postgres import Postgres

MODEL = ArtifactRef(digest="b" * 64, type="model")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def submission(
    run_id: str = "", *, pipeline: str = "p", key: str = "", priority: int = 0, tenant: str = "default"
) -> Event:
    stage = GraphStage(
        name="train", kind="train", service="training", config={}, needs=(), outputs={"model": "model"},
        inputs={"dataset": Binding(artifact=MODEL)},
    )  # fmt: skip
    graph = Graph(pipeline=pipeline, spec_digest="d" * 64, stages=(stage,), tenant=tenant)
    data = RunSubmitted(
        run_id=run_id or new_run_id(),
        graph=graph,
        idempotency_key=key,
        priority=priority,
        labels={"team": "a_b", "x": "1"},
    )
    return make_event(data, source="client", subject=data.run_id, tenant=tenant)


def test_a_submission_is_accepted_once(ledger: Ledger) -> None:
    event = submission()
    first, second = ledger.submit(event), ledger.submit(event)
    assert first == second
    assert (first.status, [s.status for s in first.stages]) == ("queued", ["pending"])
    assert len(ledger.database.transact(lambda tx: queues.take_inbox(tx, limit=10))) == 1


def test_the_same_id_for_other_content_is_refused(ledger: Ledger) -> None:
    run_id = ledger.submit(submission()).run_id
    with pytest.raises(errors.Conflict, match="other content"):
        ledger.submit(submission(run_id, pipeline="q"))


def test_an_idempotency_key_returns_the_first_run(ledger: Ledger) -> None:
    first = ledger.submit(submission(key="k"))
    assert ledger.submit(submission(key="k")).run_id == first.run_id
    with pytest.raises(errors.Conflict):
        ledger.submit(submission(key="k", priority=3))


def test_many_submitters_of_one_key_get_one_run(ledger_url: str, ledger: Ledger) -> None:
    found: list[str] = []

    def submit() -> None:
        mine = open_ledger(ledger_url)
        found.append(mine.submit(submission(key="k")).run_id)
        mine.close()

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_tenants_do_not_see_each_other(ledger: Ledger) -> None:
    run_id = ledger.submit(submission(tenant="other")).run_id
    with pytest.raises(errors.NotFound):
        ledger.run("default", run_id)
    assert ledger.runs("default").runs == ()


def test_runs_are_listed_newest_first_in_pages(ledger: Ledger) -> None:
    ids = [ledger.submit(submission()).run_id for _ in range(5)]
    page = ledger.runs("default", limit=3)
    rest = ledger.runs("default", limit=3, cursor=page.next_cursor)
    assert [r.run_id for r in (*page.runs, *rest.runs)] == sorted(ids, reverse=True)
    assert rest.next_cursor == ""


def test_runs_are_found_by_status_pipeline_and_label(ledger: Ledger) -> None:
    run_id = ledger.submit(submission(pipeline="q")).run_id
    assert [r.run_id for r in ledger.runs("default", pipeline="q", status="queued", label=("team", "a_b")).runs] == [
        run_id
    ]
    assert ledger.runs("default", label=("team", "aXb")).runs == ()
    assert ledger.runs("default", status="failed").runs == ()


def test_cancelling_an_unknown_run_names_it(ledger: Ledger) -> None:
    event = make_event(CancelRequested(run_id="run_x"), source="client", subject="run_x")
    with pytest.raises(errors.NotFound, match="run_x"):
        ledger.wish(event)


def test_events_are_numbered_within_their_run_by_concurrent_writers(ledger_url: str, ledger: Ledger) -> None:
    run_id = ledger.submit(submission()).run_id

    def write() -> None:
        database = open_ledger(ledger_url).database
        for _ in range(10):
            event = make_event(RunFinished(run_id=run_id, status="failed"), source="t", subject=run_id)
            database.transact(lambda tx, event=event: journal.append_event(tx, event))  # type: ignore[misc]  # bound at once
        database.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.seq for e in ledger.events("default", run_id)] == list(range(1, 41))
    assert [e.seq for e in ledger.events("default", run_id, after=38)] == [39, 40]


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    run_id = ledger.submit(submission()).run_id

    def work(tx: Transaction) -> None:
        journal.append_event(tx, make_event(RunFinished(run_id=run_id, status="failed"), source="t", subject=run_id))
        raise errors.Conflict("stop")

    with pytest.raises(errors.Conflict):
        ledger.database.transact(work)
    assert ledger.events("default", run_id) == []


def test_tasks_keep_their_state_and_come_out_by_priority(ledger: Ledger) -> None:
    older, newer = (ledger.submit(submission()).run_id for _ in range(2))

    def like(run: str, priority: int) -> TaskState:
        return TaskState(TaskKey(run, "s", 0, "work", 0), "default", "training", "cpu", priority)

    def work(tx: Transaction) -> list[TaskState]:
        tasks.add_tasks(tx, like(older, 0), count=3)
        tasks.add_tasks(tx, like(newer, 5), count=1)
        tasks.add_tasks(tx, like(older, 0), count=3)
        return lanes.lane_tasks(tx, "training", "cpu", lanes.Lane("default", ""), now=1.0, limit=3)

    pending = ledger.database.transact(work)
    assert [(t.key.run_id, t.key.idx) for t in pending] == [(newer, 0), (older, 0), (older, 1)]
    sent = replace(pending[0], status="dispatched", fence=1, nonce="n", dispatched_at=2.0, result={"a": 1})
    ledger.database.transact(lambda tx: tasks.save_tasks(tx, [sent]))
    found = ledger.database.transact(
        lambda tx: tasks.load_tasks(tx, [sent.key, pending[1].key, sent.key._replace(idx=9)])()
    )
    assert found == {sent.key: sent, pending[1].key: pending[1]}


def test_the_outbox_keeps_the_order_of_writing_until_marked_sent(ledger: Ledger) -> None:
    events = [submission() for _ in range(20)]
    rows = [Outgoing(new_id("out"), [("event", event), ("signal", event)]) for event in events]
    for row in rows:
        ledger.database.transact(lambda tx, row=row: queues.put_outbox(tx, [row], owner="me", now=1.0))  # type: ignore[misc]
    first = queues.read_outbox(ledger.database, owner="me", stale_before=0, limit=100)
    assert [kind for row in first for kind, _ in row.messages] == ["event", "signal"] * 20
    assert [Event.model_validate(row.messages[0][1]) for row in first] == events
    ledger.database.transact(lambda tx: queues.mark_sent(tx, [row.id for row in first[:19]]))
    assert len(queues.read_outbox(ledger.database, owner="other", stale_before=2.0, limit=100)) == 1


def test_an_outbox_row_of_an_older_version_is_one_message(ledger: Ledger) -> None:
    event = submission()
    insert = "INSERT INTO outbox (id, kind, body, owner, created_at) VALUES (?,?,?,?,?)"
    ledger.database.transact(lambda tx: tx.run(insert, ("out_1", "event", event.to_json(), "me", 1.0)))
    (row,) = queues.read_outbox(ledger.database, owner="me", stale_before=0, limit=100)
    assert [(kind, Event.model_validate(message)) for kind, message in row.messages] == [("event", event)]


def test_timers_come_due_once(ledger: Ledger) -> None:
    event = submission()
    ledger.database.transact(lambda tx: queues.set_timer(tx, "t", event, run_id="r", due_at=5.0))
    assert ledger.database.transact(lambda tx: queues.take_due_timers(tx, now=4.0, limit=9)) == []
    assert ledger.database.transact(lambda tx: queues.take_due_timers(tx, now=5.0, limit=9)) == [event]
    assert ledger.database.transact(lambda tx: queues.take_due_timers(tx, now=9.0, limit=9)) == []


def test_an_endpoint_advances_by_generations_and_stops(ledger: Ledger) -> None:
    def work(tx: Transaction) -> None:
        for release in (1, 2):
            set_desired(tx, "default", "e", release=release, model=MODEL, run_id="r", owner="me", now=1.0)

    ledger.database.transact(work)
    assert (ledger.endpoint("default", "e").generation, ledger.endpoint("default", "e").status) == (2, "starting")
    stopped = ledger.stop_endpoint("default", "e")
    assert (stopped.generation, stopped.release, stopped.model) == (3, 0, None)
    assert ledger.stop_endpoint("default", "e").generation == 3
    with pytest.raises(errors.NotFound, match="did you mean 'e'"):
        ledger.endpoint("default", "ee")


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(errors.Corrupt, match="not a ledger"):
        open_ledger(f"sqlite://{path}")


@pytest.mark.servers
def test_wrong_credentials_are_named_without_the_password(postgres_url: str) -> None:
    host = postgres_url.split("@")[1]
    with pytest.raises((errors.Unauthorized, errors.Unavailable)) as caught:
        open_ledger(f"postgresql://nobody:s3cret@{host}")
    assert "s3cret" not in str(caught.value)
    assert "MILLRACE_DATABASE_URL" in str(caught.value)


def test_an_unreachable_database_is_unavailable() -> None:
    with pytest.raises(errors.Unavailable, match="does not answer"):
        open_ledger("postgresql://u:p@127.0.0.1:1/x")


@pytest.mark.servers
def test_a_dropped_connection_is_opened_again_and_its_work_done_once(postgres: Postgres) -> None:
    ledger = open_ledger(postgres.new_database())
    run_id = ledger.submit(submission()).run_id
    attempts: list[int] = []

    def work(tx: Transaction) -> None:
        attempts.append(1)
        journal.append_event(tx, make_event(RunFinished(run_id=run_id, status="failed"), source="t", subject=run_id))
        if len(attempts) == 1:
            postgres.close_connections()

    ledger.database.transact(work)
    assert len(attempts) == 2
    assert len(ledger.events("default", run_id)) == 1
    postgres.close_connections()
    assert ledger.run("default", run_id).run_id == run_id
    ledger.close()


@pytest.mark.servers
def test_a_database_that_is_not_there_is_named(postgres_url: str) -> None:
    with pytest.raises(errors.InvalidInput, match='"nowhere" does not exist') as caught:
        open_ledger(postgres_url.rpartition("/")[0] + "/nowhere")
    assert caught.value.field == "MILLRACE_DATABASE_URL"
