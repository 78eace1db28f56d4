"""Folding on both databases: what concurrent conductors, late words and broken runs do to a ledger."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from folder import Folder, cancel, event_of, holder_of, release_of, together
from hands import about, chain, submit, succeeded
from millrace import errors
from millrace.contracts.events import (
    AttemptSucceeded,
    EndpointReported,
    StageOutputs,
    make_event,
)
from millrace.contracts.pipelines import Binding, Graph
from millrace.ledger import queues, tasks
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import fold


def test_conductors_that_get_one_event_at_once_fold_it_once(folders: Callable[[], Folder]) -> None:
    first = folders()
    report = EndpointReported(name="e", generation=1, server="s", url="http://x", status="ready")
    for _ in range(10):
        run_id, command = first.run(chain("a"))
        events = [event_of(command), make_event(report, source="server/s", subject="e")]
        together(*(partial(folders().fold, *events) for _ in range(3)))
        types = [e.type for e in first.ledger.events("default", run_id)]
        assert types.count("attempt.succeeded.v1") == types.count("run.finished.v1") == 1
        assert first.ledger.database.read("SELECT COUNT(*) FROM events WHERE event_id = ?", (events[1].id,)) == [(1,)]


def test_batches_that_name_the_same_runs_in_other_orders_do_not_deadlock(folders: Callable[[], Folder]) -> None:
    first, second = folders(), folders()
    runs = [first.run(chain("a")) for _ in range(8)]
    events = [event_of(command) for _, command in runs]
    copies = [e.model_copy(update={"id": f"{e.id}b"}) for e in reversed(events)]
    together(lambda: first.fold(*events), lambda: second.fold(*copies))
    assert {first.status(run_id) for run_id, _ in runs} == {"succeeded"}


@pytest.mark.servers
def test_dispatch_passes_over_a_run_that_another_conductor_holds(postgres_database_url: str) -> None:
    first, second = Folder(postgres_database_url), Folder(postgres_database_url)
    held, free = submit(first.ledger, chain("a")), submit(first.ledger, chain("a"))
    first.transact(lambda folding: fold(folding, queues.take_inbox(folding.tx, limit=9)), slots={})

    def hold(folding: Folding) -> None:
        folding.lock([held])
        second.transact(lambda _: None)
        assert [c.run_id for c in second.commands()] == [free]

    first.transact(hold)
    assert [c.run_id for c in first.commands()] == [free, held]
    for folder in (first, second):
        folder.ledger.close()


def test_dispatch_takes_no_more_than_twice_the_slots_and_the_most_urgent_first(folder: Folder) -> None:
    run_ids = [submit(folder.ledger, chain("a"), priority=p) for p in (0, 5, 0)]
    folder.transact(
        lambda folding: fold(folding, queues.take_inbox(folding.tx, limit=9)), slots={("functions", "cpu"): 1}
    )
    assert [c.run_id for c in folder.commands()] == [run_ids[1], run_ids[0]]
    folder.transact(lambda _: None, slots={("functions", "cpu"): 1})
    assert len(folder.commands()) == 2


def test_a_command_that_cannot_be_written_fails_its_run_alone(folder: Folder) -> None:
    gives, takes = chain("a", "b").stages
    takes = takes.model_copy(update={"inputs": {"x": Binding(stage="a", port="never_made")}})
    broken, first = folder.run(Graph(pipeline="p", spec_digest="d" * 64, stages=(gives, takes)))
    well, second = folder.run(chain("a", "b"))
    folder.fold(event_of(first), event_of(second))
    assert (folder.status(broken), folder.status(well)) == ("failed", "running")
    assert [c.stage for c in folder.commands() if c.run_id == well] == ["a", "b"]


def test_a_merge_waits_for_the_index_of_its_results(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command, succeeded(command, holder_of(command), num_tasks=2)))
    work = [c for c in folder.commands() if c.phase == "work"]
    outcome = folder.fold(*(event_of(c) for c in work))
    assert [(k.run_id, k.phase) for k in outcome.unindexed] == [(run_id, "merge")]
    assert [c.phase for c in folder.commands()] == ["plan", "work", "work"]
    assert list(tasks.results_in_order(folder.ledger.database, run_id, "a", 0)) == [{"index": 0}, {"index": 1}]


def test_a_plan_of_100_000_tasks_is_stored_and_dispatched_by_capacity(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command, succeeded(command, holder_of(command), num_tasks=100_000)))
    assert len(folder.commands()) == 1 + 2 * 100
    assert folder.ledger.run("default", run_id).stages[0].num_tasks == 100_000
    folder.fold(event_of(folder.commands()[-1]))
    assert len(folder.commands()) == 1 + 2 * 100 + 1


def test_the_end_of_a_run_leaves_none_of_its_tasks_open(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command, succeeded(command, holder_of(command), num_tasks=500)))
    folder.ledger.wish(cancel(run_id))
    outcome = folder.take()
    assert len(outcome.stops) == 200
    left = folder.ledger.database.read("SELECT status, COUNT(*) FROM tasks GROUP BY status ORDER BY status")
    assert left == [("cancelled", 500), ("succeeded", 1)]


def test_a_cancel_that_was_accepted_before_a_release_wins(folder: Folder) -> None:
    run_id, command = folder.run(release_of("e"))
    folder.ledger.wish(cancel(run_id))
    folder.fold(event_of(command, AttemptSucceeded(**about(command, holder_of(command)), outputs=StageOutputs())))
    assert folder.status(run_id) == "cancelled"
    assert folder.ledger.endpoints("default") == []


def test_a_cancel_after_a_release_is_told_so(folder: Folder) -> None:
    run_id, command = folder.run(release_of("e"))
    folder.fold(event_of(command))
    with pytest.raises(errors.Conflict, match="released"):
        folder.ledger.wish(cancel(run_id))
    folder.fold(cancel(run_id))  # one that slipped in changes nothing
    assert folder.status(run_id) == "running"


def test_a_release_that_a_newer_one_replaced_ends_its_run_at_once(folder: Folder) -> None:
    old, first = folder.run(release_of("e"))
    new, second = folder.run(release_of("e"))
    folder.fold(event_of(first))
    folder.fold(event_of(second))
    folder.take()
    error = folder.ledger.run("default", old).error
    assert error is not None
    assert (folder.status(old), error.code, new in error.message) == ("failed", "conflict", True)
    report = EndpointReported(name="e", generation=2, server="s", url="http://x", status="ready", run_id=new)
    folder.fold(make_event(report, source="server/s", subject="e"))
    assert folder.status(new) == "succeeded"
    endpoint = folder.ledger.endpoint("default", "e")
    assert (endpoint.generation, endpoint.status, endpoint.urls) == (2, "ready", ("http://x",))


def test_stopping_an_endpoint_ends_the_run_that_waits_for_it(folder: Folder) -> None:
    run_id, command = folder.run(release_of("e"))
    folder.fold(event_of(command))
    folder.ledger.stop_endpoint("default", "e")
    folder.take()
    error = folder.ledger.run("default", run_id).error
    assert error is not None
    assert "a stop of the endpoint" in error.message


def test_an_event_of_an_unknown_run_or_stage_is_journalled_and_changes_nothing(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    strangers = [command.model_copy(update={"run_id": "run_x"}), command.model_copy(update={"stage": "z"})]
    folder.fold(*(event_of(c) for c in strangers))
    assert folder.status(run_id) == "running"
    assert folder.ledger.database.read("SELECT subject, seq FROM events WHERE subject = 'run_x'") == [("run_x", 1)]


def test_a_refused_row_and_a_refused_statement_are_errors_of_ours(folder: Folder) -> None:
    database = folder.ledger.database
    row = "INSERT INTO schema_version (id, version, changed_at) VALUES (1, 1, 1)"
    with pytest.raises(errors.Conflict, match="refused a row"):
        database.transact(lambda tx: tx.run(row))
    with pytest.raises(errors.MillraceError):
        database.transact(lambda tx: tx.run("SELECT nothing FROM nowhere"))
