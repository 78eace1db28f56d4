"""Pause, resume, retry, dead letters and admission on both databases, also when two conductors race."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from folder import Folder, cancel, event_of, holder_of, release_of, together
from hands import about, chain, started, submit, succeeded
from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptFailed,
    AttemptUndeliverable,
    AttemptYielded,
    ErrorInfo,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    StageOutputs,
    make_event,
)
from millrace.contracts.pipelines import Graph, Retry
from millrace.ledger.admissions import admit_overlooked
from millrace.ledger.database import Transaction
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import fold

LOST = ErrorInfo(code="worker_lost", message="The child died by signal 9.", retryable=True)
SOUR = ErrorInfo(code="invalid_data", message="the data is sour")


def wish(data: Contract) -> Event:
    return make_event(data, source="client", subject=str(data.run_id))  # type: ignore[attr-defined]  # wishes have one


def pause(run_id: str) -> Event:
    return wish(PauseRequested(run_id=run_id))


def resume(run_id: str) -> Event:
    return wish(ResumeRequested(run_id=run_id))


def retry(run_id: str) -> Event:
    return wish(RetryRequested(run_id=run_id))


def failure(command: ExecuteAttempt, error: ErrorInfo = SOUR) -> Event:
    return event_of(command, AttemptFailed(**about(command, holder_of(command)), error=error))


def accept(folder: Folder, *wishes: Event) -> None:
    for event in wishes:
        folder.ledger.wish(event)
    folder.take()


def statuses(folder: Folder) -> dict[str, int]:
    return {
        str(s): int(n) for s, n in folder.ledger.database.read("SELECT status, COUNT(*) FROM tasks GROUP BY status")
    }


def stages(folder: Folder, run_id: str) -> list[str]:
    return [s.status for s in folder.ledger.run("default", run_id).stages]


def latest(folder: Folder, run_id: str, stage: str) -> ExecuteAttempt:
    return [c for c in folder.commands() if (c.run_id, c.stage) == (run_id, stage)][-1]


def types(folder: Folder, run_id: str) -> Counter[str]:
    return Counter(e.type for e in folder.ledger.events("default", run_id))


def planned(folder: Folder, *, num_tasks: int, **fields: object) -> tuple[str, list[ExecuteAttempt]]:
    """A run whose one stage has many tasks; the commands of those that were dispatched."""
    run_id, command = folder.run(chain("a", **fields))
    folder.fold(event_of(command, succeeded(command, holder_of(command), num_tasks=num_tasks)))
    return run_id, [c for c in folder.commands() if c.run_id == run_id and c.phase == "work"]


def test_a_paused_run_starts_nothing_and_asks_for_what_works(folder: Folder) -> None:
    run_id, work = planned(folder, num_tasks=500)
    folder.ledger.wish(pause(run_id))
    outcome = folder.take()
    assert folder.status(run_id) == "paused"
    assert len(outcome.yields) == len(work) == 200
    folder.fold(event_of(work[0]))  # what ends nevertheless counts, and makes room that nobody takes
    folder.fold(event_of(work[1], AttemptYielded(**about(work[1], holder_of(work[1])))))
    assert folder.ledger.run("default", run_id).stages[0].num_done == 1
    assert statuses(folder) == {"dispatched": 198, "paused": 301, "succeeded": 2}
    assert len(folder.commands()) == 1 + 200


def test_a_resumed_run_goes_on_where_it_was(folder: Folder) -> None:
    run_id, first = folder.run(chain("a", "b"))
    accept(folder, pause(run_id))
    folder.fold(event_of(first))
    assert stages(folder, run_id) == ["succeeded", "pending"]
    accept(folder, pause(run_id), resume(run_id), resume(run_id))
    folder.fold(event_of(latest(folder, run_id, "b")))
    assert folder.status(run_id) == "succeeded"
    counts = types(folder, run_id)
    assert (counts["run.paused.v1"], counts["run.resumed.v1"]) == (1, 1)


def test_tasks_that_are_still_to_be_looked_up_are_held_too(folder: Folder) -> None:
    run_id, _ = planned(folder, num_tasks=500)
    database = folder.ledger.database
    database.transact(lambda tx: tx.run("UPDATE tasks SET status = 'undecided' WHERE status = 'pending'"))
    accept(folder, pause(run_id))
    assert statuses(folder) == {"dispatched": 200, "paused": 300, "succeeded": 1}
    accept(folder, resume(run_id))
    assert statuses(folder) == {"dispatched": 200, "pending": 300, "succeeded": 1}


def test_who_starts_on_a_paused_run_is_asked_for_it_at_once(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    accept(folder, pause(run_id))
    outcome = folder.fold(event_of(command, started(command, holder_of(command))))
    assert [y.holder.nonce for y in outcome.yields] == ["n"]


def test_a_run_that_is_paused_before_it_begins_begins_when_it_is_resumed(folder: Folder) -> None:
    run_id = submit(folder.ledger, chain("a"))
    folder.fold(pause(run_id))
    folder.take()
    assert (folder.status(run_id), folder.commands()) == ("paused", [])
    accept(folder, resume(run_id))
    assert [c.stage for c in folder.commands()] == ["a"]


def test_a_paused_run_can_be_cancelled_and_leaves_nothing_open(folder: Folder) -> None:
    run_id, _ = planned(folder, num_tasks=500)
    accept(folder, pause(run_id), cancel(run_id))
    assert folder.status(run_id) == "cancelled"
    assert statuses(folder) == {"cancelled": 500, "succeeded": 1}


@pytest.mark.parametrize("ask", [pause, resume])
def test_a_run_that_has_ended_is_not_paused_or_resumed(folder: Folder, ask: Callable[[str], Event]) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command))
    with pytest.raises(errors.Conflict, match="already succeeded") as refused:
        folder.ledger.wish(ask(run_id))
    assert refused.value.remedy == f"`millrace rerun {run_id}` starts its pipeline anew."
    folder.fold(ask(run_id))  # one that slipped in changes nothing
    assert folder.status(run_id) == "succeeded"


def test_a_retried_run_keeps_what_succeeded_and_numbers_its_attempts_on(folder: Folder) -> None:
    run_id, work = planned(folder, num_tasks=3)
    folder.fold(event_of(work[0]))
    folder.fold(failure(work[1]))
    assert stages(folder, run_id) == ["failed"]
    view = folder.ledger.wish(retry(run_id))
    assert (view.status, folder.ledger.wish(retry(run_id)).status) == ("queued", "queued")
    folder.take()
    again = [c for c in folder.commands() if c.phase == "work" and c.fence == 2]
    assert [c.index for c in again] == [1, 2]
    late = folder.fold(event_of(work[1]), event_of(work[2], started(work[2], holder_of(work[2]))))
    assert [s.holder.fence for s in late.stops] == [1]
    view = folder.ledger.run("default", run_id)
    assert (view.status, view.error, view.finished_at, view.stages[0].num_done) == ("running", None, None, 1)
    outcome = folder.fold(*(event_of(c) for c in again))
    assert [k.phase for k in outcome.unindexed] == ["merge"]
    assert types(folder, run_id)["run.retried.v1"] == 1


def test_a_retry_begins_skipped_and_cancelled_stages_too_and_keeps_the_rest(folder: Folder) -> None:
    run_id, first = folder.run(chain("a", "b", "c"))
    folder.fold(event_of(first))
    folder.fold(failure(latest(folder, run_id, "b")))
    assert stages(folder, run_id) == ["succeeded", "failed", "skipped"]
    accept(folder, retry(run_id))
    for stage in ("b", "c"):
        folder.fold(event_of(latest(folder, run_id, stage)))
    assert folder.status(run_id) == "succeeded"
    assert [s.attempts for s in folder.ledger.run("default", run_id).stages] == [1, 2, 1]


def test_a_rejected_run_is_judged_again_by_a_retry(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command, _judged(command, "failed")))
    assert folder.status(run_id) == "rejected"
    accept(folder, retry(run_id))
    again = latest(folder, run_id, "a")
    folder.fold(event_of(again, _judged(again, "passed")))
    assert (again.fence, folder.status(run_id)) == (2, "succeeded")


def _judged(command: ExecuteAttempt, verdict: str) -> Contract:
    outputs = StageOutputs.model_validate({"verdict": verdict})
    return succeeded(command, holder_of(command)).model_copy(update={"outputs": outputs})


def test_a_cancel_that_overtakes_a_retry_ends_the_run_for_good(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(failure(command))
    again = retry(run_id)
    folder.ledger.wish(again)
    folder.fold(cancel(run_id))
    folder.take()
    assert folder.status(run_id) == "cancelled"


def test_a_retry_sent_again_after_the_run_ended_once_more_changes_nothing(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(failure(command))
    again = retry(run_id)
    accept(folder, again)
    folder.fold(failure(latest(folder, run_id, "a")))
    assert folder.ledger.wish(again).status == "failed"
    accept(folder, retry(run_id))
    assert (folder.status(run_id), latest(folder, run_id, "a").fence) == ("running", 3)


def test_a_retry_sent_again_after_a_cancel_overtook_it_changes_nothing(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(failure(command))
    again = retry(run_id)
    folder.ledger.wish(again)
    folder.fold(cancel(run_id))
    assert folder.ledger.wish(again).status == "cancelled"
    folder.take()
    assert folder.status(run_id) == "cancelled"


@pytest.mark.parametrize("ask", [pause, resume])
def test_a_wish_sent_again_after_the_run_ended_is_answered_and_not_refused(
    folder: Folder, ask: Callable[[str], Event]
) -> None:
    run_id, _ = folder.run(chain("a"))
    event = ask(run_id)
    accept(folder, event, cancel(run_id))
    assert folder.ledger.wish(event).status == "cancelled"


def test_a_cancel_sent_again_does_not_cancel_what_a_retry_revived(folder: Folder) -> None:
    run_id, _ = folder.run(chain("a"))
    event = cancel(run_id)
    accept(folder, event)
    accept(folder, retry(run_id))
    accept(folder, event)
    assert folder.status(run_id) == "running"


def test_what_cannot_be_retried_is_refused_in_words(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    with pytest.raises(errors.Conflict, match="has not ended: it is running"):
        folder.ledger.wish(retry(run_id))
    folder.fold(event_of(command))
    with pytest.raises(errors.Conflict, match="has succeeded"):
        folder.ledger.wish(retry(run_id))
    with pytest.raises(errors.NotFound):
        folder.ledger.wish(retry("run_x"))


def test_a_run_whose_release_was_replaced_is_not_retried(folder: Folder) -> None:
    old, first = folder.run(release_of("e"))
    _, second = folder.run(release_of("e"))
    folder.fold(event_of(first))
    folder.fold(event_of(second))
    folder.take()
    assert folder.status(old) == "failed"
    with pytest.raises(errors.Conflict, match="has released"):
        folder.ledger.wish(retry(old))


def test_a_task_that_takes_its_workers_along_ends_as_a_dead_letter_with_evidence(folder: Folder) -> None:
    run_id, _ = folder.run(_with_retry(chain("a"), Retry(backoff_s=0.0, max_losses=3)))
    for _ in range(3):
        folder.fold(failure(latest(folder, run_id, "a"), LOST))
        folder.now += 1
    view = folder.ledger.run("default", run_id)
    assert view.error is not None
    assert (view.status, view.error.code) == ("failed", "poison")
    [letter] = folder.ledger.dead_letters("default")
    assert (letter.run_id, letter.stage, letter.reason, letter.attempts) == (run_id, "a", "poison", 3)
    assert (letter.error, letter.workers) == (LOST, ("w",) * 3)
    assert types(folder, run_id)["task.died.v1"] == 1
    assert folder.ledger.dead_letters("default", run_id="run_x") == folder.ledger.dead_letters("other") == []


def test_a_command_that_nobody_can_deliver_is_a_dead_letter(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(event_of(command, AttemptUndeliverable(**about(command, holder_of(command)), reason="delivery limit")))
    [letter] = folder.ledger.dead_letters("default", run_id=run_id)
    assert (letter.reason, letter.error.code, folder.status(run_id)) == ("undeliverable", "undeliverable", "failed")


def _with_retry(graph: Graph, policy: Retry) -> Graph:
    return graph.model_copy(update={"stages": tuple(s.model_copy(update={"retry": policy}) for s in graph.stages)})


def test_a_run_whose_retry_was_accepted_has_no_end_any_more(folder: Folder) -> None:
    run_id, command = folder.run(chain("a"))
    folder.fold(failure(command))
    assert folder.ledger.run("default", run_id).error is not None
    view = folder.ledger.wish(retry(run_id))
    assert (view.status, view.finished_at, view.error) == ("queued", None, None)


# --- at most so many runs of a pipeline -------------------------------------------------------------------------------


def limited(max_runs: int, *names: str) -> Graph:
    return chain(*(names or ("a",))).model_copy(update={"max_runs": max_runs})


def settle(folder: Folder) -> None:
    """Take until nobody is admitted any more."""
    while folder.take().num_admitted:
        pass


def test_runs_wait_for_their_turn_and_the_oldest_goes_first(folder: Folder) -> None:
    run_ids = [submit(folder.ledger, limited(2)) for _ in range(4)]
    settle(folder)
    assert [folder.status(i) for i in run_ids] == ["running", "running", "queued", "queued"]
    folder.fold(event_of(latest(folder, run_ids[1], "a")))
    settle(folder)
    assert [folder.status(i) for i in run_ids] == ["running", "succeeded", "running", "queued"]


def test_a_paused_run_keeps_its_place_and_a_cancelled_one_gives_it_on(folder: Folder) -> None:
    first, second, third = (submit(folder.ledger, limited(1)) for _ in range(3))
    settle(folder)
    accept(folder, pause(first))
    settle(folder)
    assert [folder.status(i) for i in (first, second, third)] == ["paused", "queued", "queued"]
    accept(folder, cancel(second), cancel(first))
    settle(folder)
    assert folder.status(third) == "running"


def test_a_place_that_was_given_to_a_run_which_cannot_take_it_goes_to_the_next(folder: Folder) -> None:
    first, second, third = (submit(folder.ledger, limited(1)) for _ in range(3))
    settle(folder)
    folder.fold(event_of(latest(folder, first, "a")))  # second is admitted now, in its inbox
    folder.fold(pause(second))
    settle(folder)
    assert [folder.status(i) for i in (second, third)] == ["paused", "running"]
    accept(folder, resume(second))
    settle(folder)
    assert folder.status(second) == "queued"


def test_a_retried_run_waits_for_its_turn(folder: Folder) -> None:
    first, second = submit(folder.ledger, limited(1)), submit(folder.ledger, limited(1))
    settle(folder)
    folder.fold(failure(latest(folder, first, "a")))
    settle(folder)
    accept(folder, retry(first))
    settle(folder)
    assert [folder.status(i) for i in (first, second)] == ["queued", "running"]
    folder.fold(event_of(latest(folder, second, "a")))
    settle(folder)
    folder.fold(event_of(latest(folder, first, "a")))
    assert folder.status(first) == "succeeded"


def test_runs_without_a_limit_count_and_their_end_makes_room(folder: Folder) -> None:
    free, command = folder.run(chain("a"))
    waiting = submit(folder.ledger, limited(1))
    settle(folder)
    assert folder.status(waiting) == "queued"
    folder.fold(event_of(command))
    settle(folder)
    assert (folder.status(free), folder.status(waiting)) == ("succeeded", "running")


def test_runs_that_end_in_two_conductors_at_once_give_on_both_places(folders: Callable[[], Folder]) -> None:
    first, second = folders(), folders()
    for _ in range(5):
        run_ids = [submit(first.ledger, limited(2)) for _ in range(4)]
        settle(first)
        ends = [event_of(latest(first, run_id, "a")) for run_id in run_ids[:2]]
        together(partial(first.fold, ends[0]), partial(second.fold, ends[1]))
        settle(first)
        assert [first.status(i) for i in run_ids[2:]] == ["running", "running"]
        assert [types(first, i)["run.admitted.v1"] for i in run_ids] == [1] * 4
        for run_id in run_ids[2:]:
            first.fold(event_of(latest(first, run_id, "a")))


def test_a_run_that_comes_while_another_ends_is_admitted_in_the_end(
    folders: Callable[[], Folder], ledger_url: str
) -> None:
    first, second = folders(), folders()
    ending, waiting = submit(first.ledger, limited(1)), list[str]()
    settle(first)
    end = event_of(latest(first, ending, "a"))

    def come() -> None:
        waiting.append(submit(second.ledger, limited(1)))
        settle(second)

    coming = threading.Thread(target=come)

    def fold_slowly(tx: Transaction) -> None:
        folding = Folding(tx, conductor="con", now=first.now)
        fold(folding, [end])
        folding.write()
        coming.start()
        coming.join(1)  # on PostgreSQL it is done by now, and saw the other at work; on SQLite it waits

    first.ledger.database.transact(fold_slowly)
    coming.join(30)
    num_overlooked = 0 if ledger_url.startswith("sqlite") else 1
    assert [admit_overlooked(first.ledger.database, now=first.now) for _ in range(2)] == [num_overlooked, 0]
    settle(first)
    assert (first.status(ending), first.status(waiting[0])) == ("succeeded", "running")


def test_conductors_that_take_at_once_admit_no_more_than_fit(folders: Callable[[], Folder]) -> None:
    first, others = folders(), [folders() for _ in range(3)]
    run_ids = [submit(first.ledger, limited(3)) for _ in range(30)]
    while [first.status(i) for i in run_ids] != ["succeeded"] * 30:
        together(*(partial(settle, other) for other in others))
        settle(first)
        running = [i for i in run_ids if first.status(i) == "running"]
        assert len(running) == 3
        together(*(partial(o.fold, event_of(latest(first, i, "a"))) for o, i in zip(others, running, strict=True)))
    assert all(types(first, i)["run.admitted.v1"] == 1 for i in run_ids)
