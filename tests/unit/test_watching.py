"""Leases and the roster: whose silence counts, and who offers what."""

from __future__ import annotations

import threading
from typing import Any

from millrace_conductor.leases import Leases
from millrace_conductor.roster import Roster


def beat(worker: str = "w", *, slots: int = 2, busy: int = 0) -> dict[str, Any]:
    return {"worker_id": worker, "services": ["training"], "classes": {"cpu": slots}, "busy": {"cpu": busy}}


def test_silence_counts_from_the_first_look_at_an_attempt() -> None:
    leases = Leases(lease_s=30, echo_gap_s=15)
    for now in range(0, 100, 10):
        leases.hear_echo(now)
        assert leases.lost(["n"], now) == (["n"] if now > 30 else [])


def test_a_heartbeat_keeps_the_lease() -> None:
    leases = Leases(lease_s=30, echo_gap_s=15)
    for now in range(0, 200, 10):
        leases.hear_echo(now)
        leases.hear(["n"], now)
        assert leases.lost(["n", "silent"], now) == (["silent"] if now > 30 else [])


def test_silence_does_not_count_while_the_conductor_does_not_hear_itself() -> None:
    leases = Leases(lease_s=30, echo_gap_s=15)
    assert leases.hear_echo(0)
    assert leases.lost(["n"], 0) == []
    assert leases.lost(["n"], 100) == []
    assert leases.hear_echo(101)  # the path works again, and silence counts from zero
    assert leases.lost(["n"], 101) == []
    assert not leases.hear_echo(110)


def test_processes_that_were_all_stopped_together_lose_nobody() -> None:
    leases = Leases(lease_s=30, echo_gap_s=15)
    for now in (0, 5, 10):
        leases.hear_echo(now)
        leases.hear(["n"], now)
    assert leases.lost(["n"], 310) == []  # they go on after five minutes, and this is looked at first
    leases.hear_echo(310.1)
    assert leases.lost(["n"], 310.2) == []
    leases.hear(["n"], 314)
    leases.hear_echo(324)
    assert leases.lost(["n"], 324) == []


def test_leases_bear_being_heard_and_looked_at_by_two_threads() -> None:
    leases, stop, faults = Leases(lease_s=30, echo_gap_s=1e9), threading.Event(), list[Exception]()

    def hear() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            leases.hear([f"n{number}-{i}" for i in range(50)], 1.0)

    def look() -> None:
        try:
            for _ in range(300):
                leases.lost(["a", "b"], 1.0)
        except RuntimeError as error:
            faults.append(error)
        stop.set()

    threads = [threading.Thread(target=hear), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []


def test_an_offer_is_written_once_and_again_after_a_while_or_a_change() -> None:
    roster = Roster(lease_s=30, note_s=10)
    assert roster.hear(beat(), 0.0)
    roster.mark_noted(roster.due(0.0), 0.0)
    assert not roster.hear(beat(busy=1), 5.0)
    assert roster.due(5.0) == []
    assert roster.hear(beat(slots=4), 6.0)
    assert [w.classes for w in roster.due(6.0)] == [{"cpu": 4}]
    roster.mark_noted(roster.due(6.0), 6.0)
    roster.hear(beat(slots=4), 16.0)
    assert len(roster.due(16.0)) == 1


def test_a_change_while_an_offer_is_written_is_written_too() -> None:
    roster = Roster(lease_s=30, note_s=10)
    roster.hear(beat(slots=2), 0.0)
    written = roster.due(0.0)
    roster.hear(beat(slots=0), 0.1)
    roster.mark_noted(written, 0.2)
    assert [w.classes for w in roster.due(0.3)] == [{"cpu": 0}]


def test_a_slot_is_idle_while_its_worker_is_heard_and_not_busy() -> None:
    roster = Roster(lease_s=2, note_s=0.5)
    roster.hear(beat(busy=1), 0.0)
    assert roster.has_idle_slot("training", "cpu", 1.0)
    assert not roster.has_idle_slot("cleaning", "cpu", 1.0)
    assert not roster.has_idle_slot("training", "cpu", 3.0)
    roster.hear(beat(busy=2), 3.0)
    assert not roster.has_idle_slot("training", "cpu", 3.0)
    assert roster.due(9.0) == []
