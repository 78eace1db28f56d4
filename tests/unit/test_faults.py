"""Fault points: each does what its caption says, once, at the passing that it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.contracts.events import CancelRequested, Event, make_event
from millrace.ledger.database import Transaction
from millrace.testing.faults import POINTS, FaultPoint, Faults, at
from millrace.testing.faulty import FaultyBus, FaultyDatabase, FaultyStore
from millrace.testing.simulation.broker import Broker, MemoryBus
from millrace.testing.simulation.clock import Clock
from millrace.testing.simulation.database import MemoryDatabase, new_ledger
from millrace.testing.simulation.process import Process
from millrace.testing.simulation.store import MemoryStore


class Died(BaseException):
    """Stands for SIGKILL."""


class Later(list[Callable[[], object]]):
    """What was put off."""

    def __call__(self, work: Callable[[], object]) -> None:
        self.append(work)


def die() -> NoReturn:
    raise Died


def struck(point: FaultPoint, later: Later | None = None) -> Faults:
    return Faults(at(point), die, later if later is not None else Later())


# --- points ----------------------------------------------------------------------------------------------------------


def test_points_are_numbered_from_one_without_gap_and_say_what_they_do() -> None:
    assert [p.number for p in POINTS] == list(range(1, len(POINTS) + 1))
    assert all(p.caption.endswith(".") and p.caption[0].isupper() for p in POINTS)


def test_a_point_is_struck_at_one_passing_only() -> None:
    strikes = at(FaultPoint.BUS_REFUSED, passing=2)
    assert not strikes(FaultPoint.BUS_DELAYED)
    assert [strikes(FaultPoint.BUS_REFUSED) for _ in range(4)] == [False, True, False, False]


# --- database --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> MemoryDatabase:
    return new_ledger()


def limit(tx: Transaction) -> int:
    return tx.run("INSERT INTO limits VALUES ('default', 'k', 1) ON CONFLICT (tenant, key) DO UPDATE SET max = max + 1")


@pytest.mark.parametrize(
    ("point", "written"),
    [
        (FaultPoint.DATABASE_REFUSED, 0),
        (FaultPoint.DATABASE_ROLLED_BACK, 0),
        (FaultPoint.DATABASE_ANSWER_LOST, 1),
    ],
)
def test_a_transaction_that_fails_has_happened_or_has_not(
    ledger: MemoryDatabase, point: FaultPoint, written: int
) -> None:
    database = FaultyDatabase(ledger, struck(point))
    with pytest.raises(errors.Unavailable, match=f"Fault point {point.number} "):
        database.transact(limit)
    assert len(ledger.read("SELECT max FROM limits")) == written


@pytest.mark.parametrize(
    ("point", "written"),
    [
        (FaultPoint.DATABASE_CRASH_BEFORE, 0),
        (FaultPoint.DATABASE_CRASH_INSIDE, 0),
        (FaultPoint.DATABASE_CRASH_AFTER, 1),
    ],
)
def test_a_process_dies_around_a_transaction(ledger: MemoryDatabase, point: FaultPoint, written: int) -> None:
    with pytest.raises(Died):
        FaultyDatabase(ledger, struck(point)).transact(limit)
    assert len(ledger.read("SELECT max FROM limits")) == written


def test_a_transaction_whose_answer_was_lost_may_run_twice(ledger: MemoryDatabase) -> None:
    FaultyDatabase(ledger, struck(FaultPoint.DATABASE_REPEATED)).transact(limit)
    assert ledger.read("SELECT max FROM limits") == [(2,)]


def test_a_read_fails_once(ledger: MemoryDatabase) -> None:
    database = FaultyDatabase(ledger, struck(FaultPoint.DATABASE_READ_FAILED))
    with pytest.raises(errors.Unavailable):
        database.read("SELECT 1")
    assert database.read("SELECT 1") == [(1,)]


# --- bus -------------------------------------------------------------------------------------------------------------

QUEUE = "events.tests.v1"


@pytest.fixture
def broker() -> Broker:
    broker = Broker(Clock(), Random(0))
    broker.bind(QUEUE, ["#"])
    return broker


def events(count: int = 2) -> list[Event]:
    return [
        make_event(CancelRequested(run_id=f"r{n}"), source="client", subject=f"r{n}", id=f"e{n}") for n in range(count)
    ]


def faulty_bus(broker: Broker, point: FaultPoint, later: Later | None = None) -> FaultyBus:
    return FaultyBus(MemoryBus(broker, Process(broker.clock, "p")), struck(point, later))


def taken(broker: Broker) -> list[str]:
    return [letter.body.id for letter in broker.queue(QUEUE).ready]


@pytest.mark.parametrize(
    ("point", "ids"),
    [
        (FaultPoint.BUS_REFUSED, []),
        (FaultPoint.BUS_HALF_TAKEN, ["e0"]),
        (FaultPoint.BUS_ANSWER_LOST, ["e0", "e1"]),
    ],
)
def test_a_publisher_that_sees_an_error_may_have_been_heard(broker: Broker, point: FaultPoint, ids: list[str]) -> None:
    with pytest.raises(errors.Unavailable):
        faulty_bus(broker, point).publish(events())
    assert taken(broker) == ids


@pytest.mark.parametrize(
    ("point", "ids"),
    [(FaultPoint.BUS_DUPLICATED, ["e0", "e0", "e1", "e1"]), (FaultPoint.BUS_REORDERED, ["e1", "e0"])],
)
def test_a_publisher_that_sees_success_may_be_heard_otherwise(
    broker: Broker, point: FaultPoint, ids: list[str]
) -> None:
    faulty_bus(broker, point).publish(events())
    assert taken(broker) == ids


def test_a_delayed_batch_arrives_after_it_was_confirmed(broker: Broker) -> None:
    later = Later()
    faulty_bus(broker, FaultPoint.BUS_DELAYED, later).publish(events())
    assert taken(broker) == []
    later[0]()
    assert taken(broker) == ["e0", "e1"]


@pytest.mark.parametrize(("point", "count"), [(FaultPoint.BUS_CRASH_BEFORE, 0), (FaultPoint.BUS_CRASH_AFTER, 2)])
def test_a_process_dies_around_a_publish(broker: Broker, point: FaultPoint, count: int) -> None:
    with pytest.raises(Died):
        faulty_bus(broker, point).publish(events())
    assert len(taken(broker)) == count


def test_a_repeated_delivery_is_handled_twice_and_acknowledged_once(broker: Broker) -> None:
    handled: list[str] = []
    bus = faulty_bus(broker, FaultPoint.DELIVERY_REPEATED)
    bus.subscribe("tests", ["#"], lambda batch: handled.extend(e.id for e in batch), stop=threading.Event())
    bus.publish(events(1))
    for _ in range(4):
        broker.clock.step()
        if len(handled) == 2:
            break
    assert handled == ["e0", "e0"]
    assert taken(broker) == []


# --- store -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("default", Clock())


REF = Ref(target={}, generation=0, nonce="mine")


@pytest.mark.parametrize(
    ("point", "is_there"), [(FaultPoint.STORE_PUT_FAILED, False), (FaultPoint.STORE_PUT_ANSWER_LOST, True)]
)
def test_a_blob_whose_put_failed_may_be_there(store: MemoryStore, point: FaultPoint, is_there: bool) -> None:
    with pytest.raises(errors.Unavailable):
        FaultyStore(store, struck(point)).put_bytes(b"x")
    assert any(True for _ in store.list_blobs()) == is_there


@pytest.mark.parametrize(
    ("point", "is_there"), [(FaultPoint.STORE_REF_FAILED, False), (FaultPoint.STORE_REF_ANSWER_LOST, True)]
)
def test_a_ref_whose_write_failed_may_be_there(store: MemoryStore, point: FaultPoint, is_there: bool) -> None:
    with pytest.raises(errors.Unavailable):
        FaultyStore(store, struck(point)).write_ref("r", REF, expected=None)
    assert (store.read_ref("r") == REF) is is_there


def test_a_late_write_of_a_ref_meets_what_came_between(store: MemoryStore) -> None:
    later = Later()
    with pytest.raises(errors.Unavailable):
        FaultyStore(store, struck(FaultPoint.STORE_REF_LATE, later)).write_ref("r", REF, expected=None)
    other = REF.model_copy(update={"nonce": "other"})
    store.write_ref("r", other, expected=None)
    later[0]()
    assert store.read_ref("r") == other


@pytest.mark.parametrize(
    ("point", "read"),
    [
        (FaultPoint.STORE_GET_FAILED, lambda store, digest: store.get_bytes(digest)),
        (FaultPoint.STORE_REF_UNREAD, lambda store, _: store.read_ref("r")),
    ],
)
def test_a_read_of_the_store_fails_once(
    store: MemoryStore, point: FaultPoint, read: Callable[[FaultyStore, str], object]
) -> None:
    digest, faulty = store.put_bytes(b"x"), FaultyStore(store, struck(point))
    with pytest.raises(errors.Unavailable):
        read(faulty, digest)
    read(faulty, digest)


# --- documentation ---------------------------------------------------------------------------------------------------


def test_every_point_is_documented_as_it_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    assert [p for p in POINTS if f"| {p.number} | `{p.name}` | {p.caption} |" not in text] == []
