"""Conductors on a real ledger and the embedded broker, with workers by hand: nothing lost, nothing twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract.bus_actors import wait_until
from hands import Hand, chain, started, submit, succeeded
from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.commands import ExecuteAttempt, command_queue
from millrace.contracts.events import AttemptEvent, CancelRequested, Holder, make_event
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace.testing.faults import FaultPoint, Faults, at
from millrace.testing.faulty import FaultyDatabase
from millrace_conductor import relay, service
from millrace_conductor.service import Conductor
from millrace_conductor.watch import Watch

Work = Callable[[ExecuteAttempt, Holder], Sequence[AttemptEvent] | None]


@dataclass(frozen=True, slots=True)
class House:
    """What conductors of one factory share."""

    settings: Settings
    ledger: Ledger
    bus: Bus
    ledgers: list[Ledger] = field(default_factory=list)

    def conductor(self, *, start_deadline_s: float = 60.0) -> Conductor:
        store = open_store(self.settings)
        self.ledgers.append(open_ledger(self.settings.database))
        made = Conductor(self.settings, ledger=self.ledgers[-1], bus=self.bus, store_of=lambda _: store)
        made.watch = Watch(self.settings, made.database, self.bus, start_deadline_s=start_deadline_s)
        return made

    def hand(self, work: Work) -> Hand:
        return Hand(self.bus, self.settings.broker, work)

    def ended(self, run_id: str) -> str:
        """Wait for a run's end; its status."""
        wait_until(lambda: self.ledger.run("default", run_id).finished_at is not None)
        return self.ledger.run("default", run_id).status

    def types(self, run_id: str) -> Counter[str]:
        return Counter(e.type for e in self.ledger.events("default", run_id))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    database = "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_database_url"))
    settings = Settings(home=tmp_path / "home", database_url=database, lease_s=1.5, heartbeat_s=0.5)
    settings.home.mkdir()
    house = House(settings, open_ledger(settings.database), connect(settings.broker))
    yield house
    house.bus.close()
    for ledger in (house.ledger, *house.ledgers):
        ledger.close()


@contextmanager
def at_work(*conductors: Conductor) -> Iterator[None]:
    threads = [threading.Thread(target=c.run) for c in conductors]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for conductor in conductors:
            conductor.stop.set()
            conductor.work.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a conductor did not stop"


def at_once(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
    return [started(command, holder), succeeded(command, holder)]


def test_two_conductors_fold_50_runs_and_do_nothing_twice(house: House) -> None:
    def twice(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
        """Every fact twice, and the end before the beginning; stage b has three tasks."""
        end = succeeded(command, holder, num_tasks=3 if command.stage == "b" else 1)
        return [end, started(command, holder), end]

    with at_work(house.conductor(), house.conductor()), house.hand(twice) as hand:
        run_ids = [submit(house.ledger, chain("a", "b", "c")) for _ in range(50)]
        house.bus.signal("inbox.changed", {})
        assert {house.ended(run_id) for run_id in run_ids} == {"succeeded"}
    assert max(Counter(c.attempt_id for c in hand.commands).values()) == 1
    assert len(hand.commands) == 50 * (1 + 1 + 3 + 1 + 1)
    for run_id in run_ids:
        events = house.ledger.events("default", run_id)
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        counts = house.types(run_id)
        assert (counts["run.started.v1"], counts["run.finished.v1"], counts["stage.finished.v1"]) == (1, 1, 3)
        assert [s.attempts for s in house.ledger.run("default", run_id).stages] == [1, 5, 1]


def test_what_a_conductor_leaves_in_the_outbox_another_sends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "ORPHAN_S", 0.3)
    run_id = submit(house.ledger, chain("a"))
    with house.hand(at_once):
        killed = house.conductor()
        hear(killed, "w")
        killed.tick()
        assert house.ledger.database.read("SELECT COUNT(*) FROM outbox") == [(1,)]
        with at_work(house.conductor()):
            assert house.ended(run_id) == "succeeded"


@pytest.mark.parametrize("point", [FaultPoint.DATABASE_ANSWER_LOST, FaultPoint.DATABASE_REPEATED])
def test_what_a_commit_without_an_answer_decided_is_sent_at_once(house: House, point: FaultPoint) -> None:
    conductor = house.conductor()
    conductor.relay.step()  # a new one looks into the outbox first
    hear(conductor, "w")
    conductor.tick()
    submit(house.ledger, chain("a"))
    conductor.database = FaultyDatabase(conductor.database, Faults(at(point)))
    with suppress(errors.Unavailable):
        conductor.tick()
    conductor.relay.step()
    assert house.bus.queue_depth(command_queue("functions", "cpu")) == 1


def test_a_lost_command_is_dispatched_again_under_a_new_fence(house: House) -> None:
    def lose_the_first(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
        return at_once(command, holder) if command.fence > 1 else []

    with at_work(house.conductor(start_deadline_s=0.3)), house.hand(lose_the_first) as hand:
        run_id = submit(house.ledger, chain("a"))
        assert house.ended(run_id) == "succeeded"
    assert [c.fence for c in hand.commands] == [1, 2]


def test_a_silent_workers_attempt_is_made_again_and_its_late_word_is_refused(house: House) -> None:
    held: list[tuple[ExecuteAttempt, Holder]] = []

    def fall_silent(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
        held.append((command, holder))
        return [started(command, holder)]

    with at_work(house.conductor()), house.hand(fall_silent) as hand:
        run_id = submit(house.ledger, chain("a"))
        wait_until(lambda: len(held) == 2)
        (first, silent), (second, heir) = held
        hand.holders = [silent, heir]
        hand.say(succeeded(first, silent))
        wait_until(lambda: any(s["nonce"] == silent.nonce for s in hand.stopped))
        assert house.ledger.run("default", run_id).status == "running"
        assert not any(s["nonce"] == heir.nonce for s in hand.stopped)
        hand.holders = []
        hand.say(succeeded(second, heir))
        assert house.ended(run_id) == "succeeded"
    assert (first.fence, second.fence) == (1, 2)
    failed = next(e for e in house.ledger.events("default", run_id) if e.type == "attempt.failed.v1")
    assert failed.data["error"]["code"] == "worker_lost"


def test_a_command_that_died_fails_its_run_and_no_other(house: House) -> None:
    def reject_a(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent] | None:
        return None if command.stage == "a" else at_once(command, holder)

    with at_work(house.conductor()), house.hand(reject_a):
        dead, well = submit(house.ledger, chain("a")), submit(house.ledger, chain("b"))
        assert (house.ended(dead), house.ended(well)) == ("failed", "succeeded")
    error = house.ledger.run("default", dead).error
    assert error is not None
    assert error.code == "undeliverable"


def test_an_event_that_cannot_be_read_fails_its_run_and_no_other(house: House) -> None:
    def newer(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
        if command.stage == "a":
            event = make_event(started(command, holder), source="worker/new", subject=command.run_id)
            house.bus.publish([event.model_copy(update={"type": "attempt.dreamt.v7"})])
            return []
        return at_once(command, holder)

    with at_work(house.conductor()), house.hand(newer):
        torn, well = submit(house.ledger, chain("a")), submit(house.ledger, chain("b"))
        assert (house.ended(torn), house.ended(well)) == ("failed", "succeeded")
    error = house.ledger.run("default", torn).error
    assert error is not None
    assert (error.code, "attempt.dreamt.v7" in error.message) == ("event_refused", True)


def test_a_cancel_stops_who_works_and_frees_the_slot(house: House) -> None:
    holders: list[Holder] = []

    def hold(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
        holders.append(holder)
        return [started(command, holder)]

    with at_work(house.conductor()), house.hand(hold) as hand:
        run_id = submit(house.ledger, chain("a"))
        wait_until(lambda: house.types(run_id)["attempt.started.v1"] == 1)
        house.ledger.wish(make_event(CancelRequested(run_id=run_id), source="client", subject=run_id))
        assert house.ended(run_id) == "cancelled"
        wait_until(lambda: [s["nonce"] for s in hand.stopped] == [holders[0].nonce])
    assert house.ledger.database.read("SELECT status FROM tasks") == [("cancelled",)]


def test_submissions_that_waited_for_a_conductor_start_in_one_look(house: House) -> None:
    run_ids = [submit(house.ledger, chain("a")) for _ in range(150)]
    conductor = house.conductor()
    conductor.tick()
    assert {house.ledger.run("default", run_id).status for run_id in run_ids} == {"running"}


def test_a_run_that_waits_for_a_place_that_nobody_holds_starts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REPAIR_S", 0.0)
    one_at_a_time = chain("a").model_copy(update={"max_runs": 1})
    first, second = (submit(house.ledger, one_at_a_time) for _ in range(2))
    conductor = house.conductor()
    conductor.tick()
    ended = "UPDATE runs SET status = 'failed', finished_at = 1.0 WHERE run_id = ?"
    house.ledger.database.transact(lambda tx: tx.run(ended, (first,)))  # and nobody looked who is next
    for _ in range(3):
        conductor.tick()
    assert house.ledger.run("default", second).status == "running"


def test_an_event_in_the_inbox_that_breaks_its_folding_fails_its_run_alone(house: House) -> None:
    broken = submit(house.ledger, chain("a", when="b.x = 1"))  # no client can: expansion parses it
    well = submit(house.ledger, chain("a"))
    house.conductor().tick()
    assert house.ledger.run("default", well).status == "running"
    assert house.ledger.run("default", broken).status == "failed"


def test_a_conductor_ends_when_the_broker_can_never_be_used(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise errors.Unauthorized("The broker refused the credentials.")

    conductor = house.conductor()
    monkeypatch.setattr(house.bus, "subscribe", refuse)
    with pytest.raises(errors.Unauthorized):
        conductor.run()


def hear(conductor: Conductor, worker: str) -> None:
    """Let a conductor hear of a worker with eight slots."""
    offer = {"services": ["functions"], "classes": {"cpu": 8}, "busy": {}}
    conductor.watch.hear_worker({"worker_id": worker, "host": "here", "holders": [], **offer})
