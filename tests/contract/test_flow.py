"""Flow control on both databases: capacity, limits and shares are kept, also by conductors that decide at one instant."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hands import PLAN, chain
from millrace.contracts.events import AttemptSucceeded, Holder, RunSubmitted, make_event
from millrace.contracts.ids import attempt_id, new_run_id
from millrace.contracts.pipelines import Graph, Limit
from millrace.ledger import lanes, limits, queues, tasks
from millrace.ledger.database import Row, Transaction
from millrace.ledger.flow import queues_of
from millrace.ledger.ledger import open_ledger
from millrace.ledger.state import TaskKey, TaskState
from millrace_conductor.dispatch import dispatch
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import fold
from millrace_conductor.windows import IN_FLIGHT_PER_SLOT, MAX_PER_SLOT, Paces, Took

PLACE = ("functions", "cpu")
ONE = Limit(key="gpu:0", max=1)


class Decider:
    """A conductor's dispatching, without its threads and its broker."""

    def __init__(self, url: str) -> None:
        self.ledger = open_ledger(url)
        self.database = self.ledger.database

    def submit(self, graph: Graph, *, tenant: str = "default", priority: int = 0) -> str:
        data = RunSubmitted(run_id=new_run_id(), graph=graph.model_copy(update={"tenant": tenant}), priority=priority)
        self.ledger.submit(make_event(data, source="client", subject=data.run_id, tenant=tenant))
        return data.run_id

    def fan_out(self, count: int, *, tenant: str = "default", **fields: Any) -> str:
        """Start a run whose one stage has planned so many tasks."""
        run_id = self.submit(chain("a", **fields), tenant=tenant)
        holder = Holder(attempt_id=attempt_id(run_id, "a", "plan0", 0, 1), fence=1, nonce="n", worker="w")
        data = AttemptSucceeded(
            run_id=run_id, stage="a", phase="plan", index=0, holder=holder, plan=PLAN, num_tasks=count
        )
        self.dispatch(slots=0, take=True)
        like = TaskKey(run_id, "a", 0, "plan", 0)
        self.database.transact(lambda tx: _mark(tx, [like], "dispatched", fence=1))
        self.dispatch(slots=0, work=lambda f: fold(f, [make_event(data, source="w", subject=run_id, tenant=tenant)]))
        self.database.transact(_decided)
        return run_id

    def dispatch(
        self,
        *,
        slots: int,
        take: bool = False,
        work: Callable[[Folding], None] = lambda _: None,
        paces: Paces | None = None,
        **weights: float,
    ) -> None:
        def both(tx: Transaction) -> None:
            folding = Folding(tx, conductor="con", now=1000.0)
            if take:
                fold(folding, queues.take_inbox(tx, limit=1000))
            work(folding)
            folding.write_tasks()
            _decided(tx)
            dispatch(folding, [PLACE], slots={PLACE: slots}, indices={}, weights=weights, paces=paces)
            folding.write()

        self.database.transact(both)

    def open_tasks(self) -> list[TaskState]:
        return tasks.all_open_tasks(self.database)

    def end(self, ended: Sequence[TaskState]) -> None:
        self.database.transact(lambda tx: _mark(tx, [t.key for t in ended], "succeeded", fence=1))


def _mark(tx: Transaction, keys: Sequence[TaskKey], status: str, *, fence: int) -> None:
    tx.many(
        "UPDATE tasks SET status = ?, fence = ? WHERE run_id = ? AND stage = ? AND round = ? AND phase = ? AND idx = ?",
        ((status, fence, *key) for key in keys),
    )


def _decided(tx: Transaction) -> None:
    """Tasks here are never answered from a cache."""
    tx.run("UPDATE tasks SET status = 'pending' WHERE status = 'undecided'")


@pytest.fixture
def deciders(ledger_url: str) -> Iterator[Callable[[], Decider]]:
    made: list[Decider] = []

    def make() -> Decider:
        made.append(Decider(ledger_url))
        return made[-1]

    yield make
    for decider in made:
        decider.ledger.close()


@pytest.fixture
def decider(deciders: Callable[[], Decider]) -> Decider:
    return deciders()


def at_once(*works: Callable[[], None]) -> None:
    barrier, faults = threading.Barrier(len(works)), list[Exception]()

    def run(work: Callable[[], None]) -> None:
        barrier.wait(10)
        try:
            work()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []


def test_with_10_000_pending_tasks_the_broker_holds_two_a_slot(decider: Decider) -> None:
    decider.fan_out(10_000)
    for _ in range(3):
        decider.dispatch(slots=4)
        assert len(decider.open_tasks()) == 4 * IN_FLIGHT_PER_SLOT
    decider.end(decider.open_tasks()[:3])
    decider.dispatch(slots=4)
    assert len(decider.open_tasks()) == 4 * IN_FLIGHT_PER_SLOT


def paced(seconds: float, *, tenant: str = "default") -> list[Took]:
    """What is known of the stage `a` that `fan_out` runs."""
    return [Took(PLACE, (tenant, "p", "a", "work"), seconds)] * 100


def test_of_very_brief_tasks_the_broker_holds_more_but_a_small_multiple_of_the_capacity(decider: Decider) -> None:
    paces = Paces()
    paces.note(paced(0.0))
    decider.fan_out(10_000)
    for _ in range(3):
        decider.dispatch(slots=4, paces=paces)
        assert len(decider.open_tasks()) == 4 * MAX_PER_SLOT


def test_of_long_tasks_one_waits_for_all_slots_together(decider: Decider) -> None:
    paces = Paces()
    paces.note(paced(0.5))
    decider.fan_out(100)
    decider.dispatch(slots=4, paces=paces)
    assert len(decider.open_tasks()) == 5


def test_a_task_that_may_be_long_is_not_sent_behind_a_flood_nor_is_the_flood_sent_before_it(decider: Decider) -> None:
    paces = Paces()
    brief = decider.fan_out(1000, tenant="brief")
    paces.note(paced(0.0, tenant="brief"))
    decider.dispatch(slots=2, paces=paces)
    new = decider.submit(chain("a"), tenant="new")
    decider.dispatch(slots=0, take=True)
    for _ in range(2 * (MAX_PER_SLOT - IN_FLIGHT_PER_SLOT)):
        decider.dispatch(slots=2, paces=paces)
        assert {t.key.run_id for t in decider.open_tasks()} == {brief}
        decider.end(decider.open_tasks()[:1])
    decider.end(decider.open_tasks()[:1])
    decider.dispatch(slots=2, paces=paces)
    assert Counter(t.key.run_id for t in decider.open_tasks()) == {brief: 3, new: 1}


def test_conductors_that_dispatch_at_one_instant_keep_to_the_capacity(deciders: Callable[[], Decider]) -> None:
    several = [deciders() for _ in range(3)]
    for _ in range(30):
        several[0].submit(chain("a"))
    several[0].dispatch(slots=0, take=True)
    for _ in range(5):
        at_once(*(lambda d=d: d.dispatch(slots=3) for d in several))
        assert len(several[0].open_tasks()) == 3 * IN_FLIGHT_PER_SLOT
        several[0].end(several[0].open_tasks()[:2])


def test_a_limit_is_kept_over_all_runs_by_conductors_at_one_instant(deciders: Callable[[], Decider]) -> None:
    several = [deciders() for _ in range(3)]
    for _ in range(12):
        several[0].submit(chain("a", limit=Limit(key="gpu:0", max=2)))
    several[0].dispatch(slots=0, take=True)
    for _ in range(6):
        at_once(*(lambda d=d: d.dispatch(slots=50) for d in several))
        assert len(several[0].open_tasks()) == 2
        several[0].end(several[0].open_tasks())


def test_a_limit_holds_back_its_own_tasks_and_no_others(decider: Decider) -> None:
    limited = [decider.submit(chain("a", limit=ONE)) for _ in range(3)]
    free = decider.submit(chain("a"))
    decider.dispatch(slots=9, take=True)
    assert sorted(t.key.run_id for t in decider.open_tasks()) == [limited[0], free]


def test_tenants_have_keys_of_their_own(decider: Decider) -> None:
    for tenant in ("x", "x", "y"):
        decider.submit(chain("a", limit=ONE), tenant=tenant)
    decider.dispatch(slots=9, take=True)
    assert sorted(t.tenant for t in decider.open_tasks()) == ["x", "y"]


def test_the_smallest_maximum_of_those_who_hold_a_key_counts_and_nobody_overtakes(decider: Decider) -> None:
    wide = Limit(key="gpu:0", max=3)
    runs = [decider.submit(chain("a", limit=limit)) for limit in (wide, wide, ONE, wide)]
    decider.dispatch(slots=9, take=True)
    assert [t.key.run_id for t in decider.open_tasks()] == runs[:2]
    decider.end(decider.open_tasks()[:1])
    decider.dispatch(slots=9)
    assert [t.key.run_id for t in decider.open_tasks()] == runs[
        1:2
    ]  # the third waits to be alone, the fourth behind it
    decider.end(decider.open_tasks())
    decider.dispatch(slots=9)
    assert [t.key.run_id for t in decider.open_tasks()] == runs[2:3]


def test_the_operator_overrules_the_stages(decider: Decider) -> None:
    for _ in range(5):
        decider.submit(chain("a", limit=ONE))
    decider.database.transact(lambda tx: limits.set_limit(tx, "default", "gpu:0", max=0))
    decider.dispatch(slots=9, take=True)
    assert decider.open_tasks() == []
    decider.database.transact(lambda tx: limits.set_limit(tx, "default", "gpu:0", max=3))
    decider.dispatch(slots=9)
    assert len(decider.open_tasks()) == 3
    view = limits.find_limit(decider.database, "default", "gpu:0")
    assert (view.max, view.ruled, view.held, view.waiting) == (3, True, 3, 2)
    decider.database.transact(lambda tx: limits.drop_limit(tx, "default", "gpu:0"))
    assert limits.find_limit(decider.database, "default", "gpu:0").max == 1


def test_tenants_share_places_by_weight_and_use_what_others_leave(decider: Decider) -> None:
    decider.fan_out(500, tenant="noisy")
    decider.dispatch(slots=8)
    assert Counter(t.tenant for t in decider.open_tasks()) == {"noisy": 16}
    decider.fan_out(500, tenant="late")
    for _ in range(16):
        decider.end([t for t in decider.open_tasks() if t.tenant == "noisy"][:1])
        decider.dispatch(slots=8, late=3.0)
    assert Counter(t.tenant for t in decider.open_tasks()) == {"late": 12, "noisy": 4}


def test_a_tenants_most_urgent_tasks_go_first_over_all_its_lanes(decider: Decider) -> None:
    limit = Limit(key="k", max=9)
    low, high = decider.submit(chain("a")), decider.submit(chain("a", limit=limit), priority=5)
    middle = decider.submit(chain("a"), priority=1)
    decider.dispatch(slots=1, take=True)
    assert {t.key.run_id for t in decider.open_tasks()} == {high, middle}
    decider.dispatch(slots=2)
    assert {t.key.run_id for t in decider.open_tasks()} == {high, middle, low}


@pytest.mark.servers
def test_a_run_that_another_conductor_holds_is_passed_over_however_many_tasks_it_has(
    postgres_database_url: str,
) -> None:
    first, second = Decider(postgres_database_url), Decider(postgres_database_url)
    held, free = first.fan_out(3000), first.submit(chain("a"))
    first.dispatch(slots=0, take=True)

    def hold(folding: Folding) -> None:
        folding.lock([held])
        second.dispatch(slots=1)
        assert [t.key.run_id for t in second.open_tasks()] == [free]

    first.dispatch(slots=0, work=hold)
    for decider in (first, second):
        decider.ledger.close()


def test_queues_tell_what_waits_and_where(decider: Decider) -> None:
    decider.fan_out(20)
    decider.submit(chain("a", limit=ONE))
    decider.submit(chain("a", limit=ONE))
    decider.submit(chain("a"), tenant="other")
    decider.dispatch(slots=0, take=True)
    decider.dispatch(slots=2)
    view = queues_of(decider.database, "default", seen_after=0.0)
    (queue,) = view.queues
    assert (queue.service, queue.slots, queue.dispatched + queue.others_held, queue.others_held) == (
        "functions",
        0,
        4,
        1,
    )
    assert queue.pending + queue.dispatched == 22


class Explained:
    """A transaction that notes how the database finds the rows of each query."""

    def __init__(self, tx: Transaction) -> None:
        self.lock = tx.lock
        self.plans: list[str] = []
        self._tx = tx

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        how = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)" if self.lock else "EXPLAIN QUERY PLAN"
        self.plans.append(
            "\n".join(str(row[0 if self.lock else -1]) for row in self._tx.rows(f"{how} {sql}", parameters))
        )
        return self._tx.rows(sql, parameters)

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Row]]:
        found = self.rows(sql, parameters)
        return lambda: found


def test_no_decision_reads_all_tasks(decider: Decider) -> None:
    like = TaskState(TaskKey("run_a", "s", 0, "work", 0), "default", *PLACE, 0)

    def work(tx: Transaction) -> list[str]:
        tasks.add_tasks(tx, like, count=20_000)
        _decided(tx)
        _mark(tx, [like.key._replace(idx=n) for n in range(50)], "running", fence=1)
        explained: Any = Explained(tx)
        assert lanes.find_lanes(explained, *PLACE)() == [lanes.Lane("default", "")]
        head = lanes.lane_tasks(explained, *PLACE, lanes.Lane("default", ""), now=1.0, limit=5)
        lanes.lane_tasks(explained, *PLACE, lanes.Lane("default", ""), now=1.0, limit=5, behind=head[0])
        lanes.held_places(explained, *PLACE)
        lanes.held_limit(explained, lanes.Lane("default", "k"))
        tasks.load_tasks(explained, [task.key for task in head])()
        return list(explained.plans)

    for plan in decider.database.transact(work):
        assert "Seq Scan on tasks" not in plan
        assert "SCAN tasks" not in plan
        assert "rows=19950" not in plan  # PostgreSQL: as many as are pending
