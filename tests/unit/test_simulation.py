"""The simulation: many runs under every fault, in virtual time, on the conductor's own code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from random import Random

import pytest

from millrace.testing.faults import POINTS, FaultPoint
from millrace.testing.simulation.broker import Broker, Letter, MemoryBus
from millrace.testing.simulation.clock import EPOCH, Clock, virtual_time
from millrace.testing.simulation.process import Process, Steps, die
from millrace.testing.simulation.run import quiet, simulate
from millrace.testing.simulation.world import FAULTS_FOR_S, World

SEED = 1000
"""The benchmark runs seeds 0 to 99: these are others."""


@pytest.mark.parametrize("focus", POINTS, ids=str)
def test_no_promise_is_broken_wherever_a_fault_strikes(focus: FaultPoint) -> None:
    report = simulate(SEED + focus.number, focus=focus, num_runs=12)
    assert not report.violations, str(report)


def test_the_point_in_focus_is_struck() -> None:
    assert simulate(SEED, focus=FaultPoint.BUS_CRASH_AFTER, num_runs=5).struck[FaultPoint.BUS_CRASH_AFTER] > 0


def test_a_seed_is_repeated_to_the_last_event_in_another_process() -> None:
    program = "from millrace.testing.simulation.run import simulate; print(simulate(3, num_runs=10).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(traces) == 1


def test_a_report_says_how_to_repeat_its_seed() -> None:
    report = simulate(7, focus=FaultPoint.SIGNAL_LOST, num_runs=2)
    assert "python -m millrace.testing.simulation --seed 7 --point 17 --runs 2" in str(report)


def test_a_world_is_not_at_rest_while_what_was_confirmed_is_on_its_way() -> None:
    clock, arrived = Clock(), list[float]()
    with quiet(), virtual_time(clock, 1):
        world = World(clock, 1, focus=None, num_runs=0)
        clock.after(FAULTS_FOR_S - 0.1, lambda: world.later(lambda: arrived.append(clock.now)))
        world.run(FAULTS_FOR_S + 60)
    assert len(arrived) == 1
    assert EPOCH + FAULTS_FOR_S < arrived[0] <= clock.now < EPOCH + FAULTS_FOR_S + 60


# --- what it is made of ----------------------------------------------------------------------------------------------


def test_time_is_virtual_inside_and_real_again_afterwards() -> None:
    clock = Clock()
    with virtual_time(clock, 1):
        first, entropy = time.time(), os.urandom(8)
        clock.after(100.0, lambda: None)
        clock.step()
        assert (first, time.time(), time.monotonic()) == (EPOCH, EPOCH + 100, EPOCH + 100)
    with virtual_time(Clock(), 1):
        assert os.urandom(8) == entropy
    assert time.time() > EPOCH + 1000
    assert time.monotonic() < EPOCH


def test_a_process_that_died_within_a_call_does_nothing_more() -> None:
    clock, done = Clock(), list[str]()
    process = Process(clock, "p")

    def steps() -> Steps:
        done.append("begun")
        yield 1.0
        die()

    process.spawn(steps())
    process.after(5.0, lambda: done.append("too late"))
    for _ in range(3):
        clock.step()
    assert (process.is_alive, done) == (False, ["begun"])


def test_a_suspended_process_does_what_was_due_when_it_goes_on() -> None:
    clock, done = Clock(), list[float]()
    process = Process(clock, "p")
    process.after(1.0, lambda: done.append(clock.now - EPOCH))
    process.suspend(10.0)
    clock.step()
    assert done == []
    clock.step()
    assert done == [10.0]


def test_a_command_that_its_worker_died_with_is_delivered_again() -> None:
    broker = Broker(Clock(), Random(0))
    queue = broker.queue("commands")
    bus = MemoryBus(broker, Process(broker.clock, "p"))
    queue.put(Letter("command"))
    letter = queue.take()
    assert letter is not None
    assert bus.queue_depth("commands") == 0
    queue.put_back([letter])
    assert bus.queue_depth("commands") == 1
    again = queue.take()
    assert again is not None
    assert again.deliveries == 1


def test_a_message_that_returns_too_often_is_a_dead_letter() -> None:
    broker = Broker(Clock(), Random(0))
    queue, bus = broker.queue("commands"), MemoryBus(broker, Process(broker.clock, "p"))
    queue.put(Letter("command"))
    while (letter := queue.take()) is not None:
        queue.put_back([letter])
    assert [dead.queue for dead in bus.dead_letters()] == ["commands"]
