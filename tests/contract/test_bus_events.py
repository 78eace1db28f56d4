"""Events and signals, over both transports."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from contract.bus_actors import acting, make_planned, make_started, running, subscribed, wait_until
from millrace import errors
from millrace.bus import Bus, DeadLetter
from millrace.bus.connect import connect
from millrace.bus.topology import MAX_SIGNALS
from millrace.contracts.events import Event


def signal_until(bus: Bus, key: str, payload: dict[str, int], claim: Callable[[], bool]) -> None:
    """Say it again and again until somebody has heard: a listener takes a moment to be one."""

    def is_heard() -> bool:
        bus.signal(key, payload)
        return claim()

    wait_until(is_heard)


class Collected:
    """An on_batch that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, events: Sequence[Event]) -> None:
        self.batches.append([event.id for event in events])

    @property
    def ids(self) -> list[str]:
        return [id for batch in self.batches for id in batch]


def test_events_reach_each_service_whose_pattern_matches(bus: Bus) -> None:
    runs, all_of_them = Collected(), Collected()
    bus.declare("runs", ["run.*.v1"])
    bus.declare("all", ["run.#", "stage.#"])
    bus.publish([make_started("evt_1"), make_planned("evt_2")])
    with (
        subscribed(bus, runs, service="runs", patterns=["run.*.v1"]),
        subscribed(bus, all_of_them, service="all", patterns=["run.#", "stage.#"]),
    ):
        wait_until(lambda: len(all_of_them.ids) == 2 and len(runs.ids) == 1)
    assert (runs.ids, set(all_of_them.ids)) == (["evt_1"], {"evt_1", "evt_2"})


def test_an_event_arrives_as_it_was_published(bus: Bus) -> None:
    received: list[Event] = []
    event = make_started("evt_1", pipeline="Mühle ⚙ " + "x" * 400_000).model_copy(update={"traceparent": "00-ab-cd-01"})
    with subscribed(bus, received.extend):
        bus.declare("tests", ["#"])
        bus.publish([event])
        wait_until(lambda: bool(received))
    assert received == [event]


def test_events_wait_for_a_subscriber_and_are_delivered_in_batches(bus: Bus, bus_url: str) -> None:
    bus.declare("tests", ["#"])
    bus.publish([make_started(f"evt_{i}") for i in range(200)])
    assert bus.queue_depth("events.tests.v1") == 200
    collected = Collected()
    with subscribed(connect(bus_url), collected):
        wait_until(lambda: len(collected.ids) >= 200)
        wait_until(lambda: bus.queue_depth("events.tests.v1") == 0)
    assert Counter(collected.ids) == Counter(f"evt_{i}" for i in range(200))
    assert 1 < max(len(batch) for batch in collected.batches) <= 64


def test_members_of_a_service_share_its_events(bus: Bus, bus_url: str) -> None:
    bus.declare("tests", ["#"])
    one, two = Collected(), Collected()
    with subscribed(bus, one), subscribed(connect(bus_url), two):
        for start in range(0, 320, 16):
            bus.publish([make_started(f"evt_{start + i}") for i in range(16)])
        wait_until(lambda: len(one.ids) + len(two.ids) >= 320)
    assert Counter(one.ids + two.ids) == Counter(f"evt_{i}" for i in range(320))


def test_threads_that_publish_at_once_lose_nothing(bus: Bus) -> None:
    bus.declare("tests", ["#"])

    def publish(name: int) -> None:
        for i in range(25):
            bus.publish([make_started(f"evt_{name}_{i}")])

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus.queue_depth("events.tests.v1") == 200


def test_a_batch_whose_trouble_passes_is_tried_again_and_never_dies(bus: Bus) -> None:
    collected, num_failures = Collected(), 0

    def on_batch(events: Sequence[Event]) -> None:
        nonlocal num_failures
        if num_failures < 3:
            num_failures += 1
            raise errors.Unavailable("the database is away")
        collected(events)

    bus.declare("tests", ["#"])
    bus.publish([make_started(f"evt_{i}") for i in range(10)])
    with subscribed(bus, on_batch):
        wait_until(lambda: len(collected.ids) == 10)
    assert bus.queue_depth("events.tests.v1") == 0
    assert bus.dead_letters() == []


def test_poison_becomes_a_dead_letter_and_its_batch_goes_on(bus: Bus) -> None:
    collected, num_tries = Collected(), 0

    def on_batch(events: Sequence[Event]) -> None:
        nonlocal num_tries
        if any(event.id == "evt_3" for event in events):
            num_tries += len(events) == 1
            raise RuntimeError("cannot digest evt_3")
        collected(events)

    bus.declare("tests", ["#"])
    bus.publish([make_started(f"evt_{i}") for i in range(6)])
    with subscribed(bus, on_batch):
        wait_until(lambda: bus.queue_depth("dead.v1") == 1)
    assert Counter(collected.ids) == Counter(f"evt_{i}" for i in (0, 1, 2, 4, 5))
    assert 20 <= num_tries <= 22
    [letter] = bus.dead_letters()
    assert (letter.queue, letter.reason) == ("events.tests.v1", "delivery_limit")
    assert letter.event is not None
    assert letter.event.id == "evt_3"


def test_dead_letters_are_looked_at_often_and_consumed_once(bus: Bus) -> None:
    def on_batch(events: Sequence[Event]) -> None:
        raise RuntimeError("no")

    bus.declare("tests", ["#"])
    bus.publish([make_started("evt_1")])
    with subscribed(bus, on_batch):
        wait_until(lambda: bus.queue_depth("dead.v1") == 1)
    assert [len(bus.dead_letters(limit=5)) for _ in range(3)] == [1, 1, 1]
    letters: list[DeadLetter] = []
    with running(lambda stop: bus.subscribe_dead(letters.extend, stop=stop)):
        wait_until(lambda: len(letters) == 1)
        wait_until(lambda: bus.queue_depth("dead.v1") == 0)
    assert bus.dead_letters() == []


def test_signals_reach_those_who_listen_now(bus: Bus) -> None:
    heard: list[tuple[str, object]] = []
    bus.signal("worker.w1.heartbeat", {"n": 0})
    with running(lambda stop: bus.listen(["worker.*.heartbeat"], lambda k, p: heard.append((k, p["n"])), stop=stop)):
        signal_until(bus, "worker.w1.heartbeat", {"n": 1}, lambda: bool(heard))
        heard.clear()
        bus.signal("attempt.run.progress", {"n": 2})
        bus.signal("worker.w2.heartbeat", {"n": 3})
        wait_until(lambda: ("worker.w2.heartbeat", 3) in heard)
    assert all(key != "attempt.run.progress" and n != 0 for key, n in heard)


def test_a_slow_listener_costs_its_sender_nothing_and_hears_the_latest(bus: Bus) -> None:
    heard: list[int] = []
    may_go_on = threading.Event()

    def on_signal(key: str, payload: dict[str, int]) -> None:
        heard.append(payload["n"])
        may_go_on.wait(20)

    with running(lambda stop: bus.listen(["#"], on_signal, stop=stop)):
        signal_until(bus, "a", {"n": -1}, lambda: bool(heard))
        started = time.monotonic()
        for n in range(3 * MAX_SIGNALS):
            bus.signal("a", {"n": n})
        assert time.monotonic() - started < 15
        may_go_on.set()
        wait_until(lambda: heard[-1] == 3 * MAX_SIGNALS - 1)


def test_a_signal_that_its_listener_cannot_bear_is_dropped(bus: Bus) -> None:
    heard: list[str] = []

    def on_signal(key: str, payload: dict[str, object]) -> None:
        heard.append(key)
        if key == "bad":
            raise RuntimeError("no")

    with running(lambda stop: bus.listen(["#"], on_signal, stop=stop)):
        signal_until(bus, "hello", {}, lambda: bool(heard))
        bus.signal("bad", {})
        bus.signal("good", {})
        wait_until(lambda: "good" in heard)
    assert heard.count("bad") == 1


def test_every_process_hears_a_signal(bus: Bus, bus_url: str, tmp_path: Path) -> None:
    with (
        acting(tmp_path / "one", "listen", bus_url) as one,
        acting(tmp_path / "two", "listen", bus_url) as two,
    ):
        signal_until(bus, "control.all", {}, lambda: bool(one.lines() and two.lines()))


@pytest.mark.parametrize("loop", ["subscribe", "listen"])
def test_a_loop_ends_soon_after_its_stop(bus: Bus, loop: str) -> None:
    stop = threading.Event()
    arguments = ("tests", ["#"], print) if loop == "subscribe" else (["#"], print)
    thread = threading.Thread(target=getattr(bus, loop), args=arguments, kwargs={"stop": stop})
    thread.start()
    time.sleep(0.3)
    stop.set()
    thread.join(2)
    assert not thread.is_alive()


def test_a_bug_in_one_caller_is_no_success_of_another(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that publish at once go in one batch; when its leader is interrupted, all of them hear of it."""
    bus.declare("tests", ["#"])
    has_turn, may_fail = threading.Event(), threading.Event()
    publisher = bus._publisher  # type: ignore[attr-defined]  # the one thing that decides what goes together
    deliver = publisher._deliver

    def interrupted(messages: Sequence[object], *, timeout_s: float) -> set[str]:
        if not has_turn.is_set():
            has_turn.set()
            may_fail.wait(10)
            return set(deliver(messages, timeout_s=timeout_s))
        raise KeyboardInterrupt

    monkeypatch.setattr(publisher, "_deliver", interrupted)
    failures: list[BaseException] = []

    def publish(id: str) -> None:
        try:
            bus.publish([make_started(id)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(f"evt_{n}",)) for n in range(4)]
    threads[0].start()
    has_turn.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(publisher._queue) == 3)
    may_fail.set()
    for thread in threads:
        thread.join()
    assert sorted(type(error).__name__ for error in failures) == ["KeyboardInterrupt", "Unavailable", "Unavailable"]
