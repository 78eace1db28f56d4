"""The bus among several processes which are killed at any instant, over both transports."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from contract.bus_actors import Actor, acting, make_command, make_started, subscribed, wait_until
from millrace.bus import Bus


def test_nothing_confirmed_is_lost_while_producers_and_consumers_are_killed(
    bus: Bus, bus_url: str, tmp_path: Path
) -> None:
    bus.declare("tests", ["#"])
    producers = [Actor(tmp_path / f"p{n}", "produce", bus_url, f"evt_{n}", 1600) for n in range(3)]
    consumers = [Actor(tmp_path / f"c{n}", "consume", bus_url, "tests", 0.01) for n in range(2)]
    try:
        wait_until(lambda: len(producers[0].lines()) > 100 and len(consumers[0].lines()) > 50)
        producers[0].kill()
        consumers[0].kill()
        consumers.append(Actor(tmp_path / "c2", "consume", bus_url, "tests", 0))
        assert [p.process.wait(60) for p in producers[1:]] == [0, 0]
        confirmed = {id for p in producers for id in p.lines()}
        wait_until(lambda: confirmed <= {id for c in consumers for id in c.lines()}, timeout_s=30)
        wait_until(lambda: bus.queue_depth("events.tests.v1") == 0)
        seen = Counter(id for c in consumers for id in c.lines())
        assert sum(seen.values()) - len(seen) <= 32, "more was repeated than the killed consumer held"
    finally:
        for actor in producers + consumers:
            actor.kill()


def test_what_a_killed_consumer_held_comes_to_another_within_seconds(bus: Bus, bus_url: str, tmp_path: Path) -> None:
    bus.declare("tests", ["#"])
    bus.publish([make_started(f"evt_{i}") for i in range(20)])
    with acting(tmp_path / "one", "consume", bus_url, "tests", 60) as one:
        wait_until(lambda: len(one.lines()) >= 1)
        one.kill()
    received: list[str] = []
    killed_at = time.monotonic()
    with subscribed(bus, lambda events: received.extend(event.id for event in events)):
        wait_until(lambda: set(received) == {f"evt_{i}" for i in range(20)}, timeout_s=5)
    assert time.monotonic() - killed_at < 4


def test_a_worker_executes_each_command_once_and_keeps_its_trace(bus: Bus, bus_url: str, tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bus.send([make_command(f"a{i}", trace={"traceparent": trace}) for i in range(40)])
    with acting(tmp_path / "w", "work", bus_url, 2, 0) as worker:
        wait_until(lambda: len(worker.lines()) >= 80)
        wait_until(lambda: bus.queue_depth("commands.training.cpu.v1") == 0)
    assert Counter(worker.lines()) == Counter(
        [f"start a{i} {trace}" for i in range(40)] + [f"end a{i}" for i in range(40)]
    )


def test_a_worker_takes_no_more_commands_than_it_has_slots(bus: Bus, bus_url: str, tmp_path: Path) -> None:
    bus.send([make_command(f"a{i}") for i in range(6)])
    with acting(tmp_path / "w", "work", bus_url, 2, 60) as worker:
        wait_until(lambda: len(worker.lines()) == 2)
        time.sleep(0.5)
        assert bus.queue_depth("commands.training.cpu.v1") == 4


def test_the_commands_of_a_killed_worker_go_to_another_within_seconds(bus: Bus, bus_url: str, tmp_path: Path) -> None:
    bus.send([make_command(f"a{i}") for i in range(4)])
    with acting(tmp_path / "w1", "work", bus_url, 2, 60) as one:
        wait_until(lambda: len(one.lines()) == 2)
        with acting(tmp_path / "w2", "work", bus_url, 4, 0.2) as two:
            wait_until(lambda: len(two.lines()) >= 4)
            one.kill()
            killed_at = time.monotonic()
            wait_until(lambda: len(two.lines()) >= 8, timeout_s=5)
            assert time.monotonic() - killed_at < 4
            assert Counter(line for line in two.lines() if line.startswith("end")) == Counter(
                f"end a{i}" for i in range(4)
            )


def test_a_worker_that_is_asked_to_end_finishes_what_it_has_and_leaves_the_rest(
    bus: Bus, bus_url: str, tmp_path: Path
) -> None:
    bus.send([make_command(f"a{i}") for i in range(5)])
    with acting(tmp_path / "w", "work", bus_url, 2, 1) as worker:
        wait_until(lambda: len(worker.lines()) == 2)
        assert worker.terminate() == 0
        num_ended = sum(line.startswith("end") for line in worker.lines())
    assert num_ended == sum(line.startswith("start") for line in worker.lines()) >= 2
    wait_until(lambda: bus.queue_depth("commands.training.cpu.v1") == 5 - num_ended)
