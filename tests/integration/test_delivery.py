"""The worker's side of delivery: who may work, what is handed on, and that nothing is computed twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.bus_actors import wait_until
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import AttemptFailed, AttemptStarted, AttemptSucceeded, AttemptYielded, Holder
from millrace.runtime.heads import TaskHead, head_name
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from probes.worker import Factory, make_command, running_factory
from servers.rabbitmq import RabbitMQ

TEN = [str(number) for number in range(1, 11)]
QUEUE = "commands.probe.cpu.v1"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def shared(settings: Settings) -> Iterator[Factory]:
    """One worker, with a lease that half a second of work outlasts, for all tests that leave it as it was."""
    with running_factory(settings, MILLRACE_LEASE_S="0.4", MILLRACE_GRACE_S="0.5") as factory:
        yield factory


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.servers)])
def broker_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A factory of the test's own, on either transport."""
    url = request.getfixturevalue("rabbitmq_vhost_url") if request.param == "rabbitmq" else ""
    return Settings(home=tmp_path / "home", broker_url=url)


def order(factory: Factory, kind: str, holder: Holder, **more: str) -> None:
    named = {"attempt_id": holder.attempt_id, "fence": holder.fence, "nonce": holder.nonce, **more}
    factory.bus.signal(f"control.worker.{holder.worker}", {kind: [named]})


def next_attempt(command: ExecuteAttempt) -> ExecuteAttempt:
    fence = command.fence + 1
    return command.model_copy(update={"fence": fence, "attempt_id": f"{command.attempt_id}.{fence}"})


def wait_steps(path: Path, number: int) -> None:
    wait_until(lambda: path.exists() and len(path.read_text().split()) >= number)


def killed_and_asked(factory: Factory, **work: Any) -> Holder:
    """Kill a worker at its work and start another; who asks for the same attempt now."""
    factory.send(**work)
    first = factory.wait_event(AttemptStarted)
    assert not first.asks
    factory.kill()
    factory.start()
    lost = factory.wait_event(AttemptFailed)
    assert (lost.holder, lost.error.code, lost.error.retryable) == (first.holder, "worker_lost", True)
    second = factory.wait_event(AttemptStarted)
    assert second.asks
    assert second.holder.attempt_id == first.holder.attempt_id
    assert second.holder.nonce != first.holder.nonce
    return second.holder


# --- redelivery ------------------------------------------------------------------------------------------------------


def test_a_successor_reports_the_dead_workers_holders_and_asks_before_it_works(broker_settings: Settings) -> None:
    with running_factory(broker_settings) as factory:
        holder = killed_and_asked(factory, do="sleep", seconds=0.8)
        beats = [factory.wait_signal("heartbeat", matching=holder.nonce) for _ in range(4)]
        assert [h["asks"] for h in beats[-1]["holders"]] == [True]
        assert factory.events.empty()
        order(factory, "hold", holder)
        assert factory.wait_event(AttemptSucceeded).holder == holder


def test_a_redelivered_attempt_that_is_told_to_stop_is_dropped_without_a_word(broker_settings: Settings) -> None:
    with running_factory(broker_settings) as factory:
        holder = killed_and_asked(factory, do="sleep", seconds=0.8)
        order(factory, "stop", holder)
        while factory.wait_signal("heartbeat")["holders"]:
            pass
        assert factory.events.empty()
        assert factory.terminate() == 0
        assert factory.bus.queue_depth(QUEUE) == 0


def test_a_worker_that_drains_while_it_asks_hands_the_attempt_back(tmp_path: Path) -> None:
    with running_factory(Settings(home=tmp_path / "home")) as factory:
        holder = killed_and_asked(factory, do="sleep", seconds=0.8)
        assert factory.terminate() == 0
        assert factory.wait_event(AttemptYielded).holder == holder
        assert factory.bus.queue_depth(QUEUE) == 0


def test_a_command_that_comes_twice_while_it_is_worked_on_is_worked_on_once(shared: Factory, tmp_path: Path) -> None:
    command = make_command(do="steps", path=str(tmp_path / "steps"), seconds=0.5)
    shared.bus.send([command, command])
    shared.wait_event(AttemptSucceeded)
    wait_until(lambda: not shared.wait_signal("heartbeat")["holders"])
    assert (tmp_path / "steps").read_text().split() == TEN
    assert shared.events.empty()


@pytest.mark.servers
def test_a_broker_that_restarts_under_an_attempt_has_it_computed_once(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", broker_url=rabbitmq.new_vhost())
    with running_factory(settings) as factory:
        factory.send(do="steps", path=str(tmp_path / "steps"), seconds=10)
        factory.wait_event(AttemptStarted)
        time.sleep(3)  # RabbitMQ 3.10 forgets a quorum queue that is killed within seconds of its birth
        rabbitmq.stop()
        rabbitmq.start()
        factory.wait_event(AttemptSucceeded)
        factory.send()
        factory.wait_event(AttemptSucceeded)  # the slots are free: nobody waits for a word on the first
        assert factory.terminate() == 0
        assert factory.bus.queue_depth(QUEUE) == 0
        assert (tmp_path / "steps").read_text().split() == TEN
        assert factory.events.empty()


# --- starts ----------------------------------------------------------------------------------------------------------


def test_a_short_attempt_says_only_how_it_ended(shared: Factory) -> None:
    for _ in range(2):  # the first has a zygote started
        shared.send()
        shared.wait_event(AttemptSucceeded)
    shared.send()
    assert isinstance(shared.next_event(), AttemptSucceeded)


def test_an_attempt_that_lasts_says_that_it_started_before_it_ends(shared: Factory) -> None:
    shared.send(do="sleep", seconds=0.35)
    assert isinstance(shared.next_event(), AttemptStarted)
    assert isinstance(shared.next_event(), AttemptSucceeded)


# --- handing back, and going on --------------------------------------------------------------------------------------


def test_an_attempt_that_is_wanted_back_saves_a_checkpoint_and_the_next_goes_on_from_it(
    shared: Factory, tmp_path: Path
) -> None:
    command = shared.send(do="steps", path=str(tmp_path / "steps"), seconds=1)
    holder = shared.wait_event(AttemptStarted).holder
    wait_steps(tmp_path / "steps", 2)
    order(shared, "yield", holder, reason="paused")
    assert shared.wait_event(AttemptYielded).checkpoint is not None
    shared.bus.send([next_attempt(command)])
    shared.wait_event(AttemptSucceeded)
    assert (tmp_path / "steps").read_text().split() == TEN


def test_an_attempt_that_does_not_look_is_killed_after_the_grace_and_handed_back(shared: Factory) -> None:
    shared.send(do="sleep", seconds=60)
    holder = shared.wait_event(AttemptStarted).holder
    order(shared, "yield", holder, reason="paused")
    yielded = shared.wait_event(AttemptYielded)
    assert (yielded.holder, yielded.checkpoint) == (holder, None)


def test_at_its_soft_limit_an_attempt_saves_a_checkpoint_and_fails_retryably(shared: Factory, tmp_path: Path) -> None:
    command = shared.send(do="steps", path=str(tmp_path / "steps"), seconds=1, soft_timeout_s=0.3)
    error = shared.wait_event(AttemptFailed).error
    assert (error.code, error.retryable, error.field) == ("timed_out", True, "stages.probe.soft_timeout_s")
    assert 2 <= len((tmp_path / "steps").read_text().split()) < 10
    shared.bus.send([next_attempt(command).model_copy(update={"soft_timeout_s": None})])
    shared.wait_event(AttemptSucceeded)
    assert (tmp_path / "steps").read_text().split() == TEN


def test_a_draining_workers_attempts_checkpoint_at_once(tmp_path: Path) -> None:
    with running_factory(Settings(home=tmp_path / "home")) as factory:
        factory.send(do="steps", path=str(tmp_path / "steps"), seconds=30)
        factory.wait_event(AttemptStarted)
        began = time.monotonic()
        assert factory.terminate() == 0
        assert time.monotonic() - began < 10
        assert factory.wait_event(AttemptYielded).checkpoint is not None


def test_an_attempt_whose_task_another_has_sealed_ends_without_a_word(
    shared: Factory, store: Store, tmp_path: Path
) -> None:
    command = shared.send(do="steps", path=str(tmp_path / "steps"), seconds=1)
    holder = shared.wait_event(AttemptStarted).holder
    TaskHead(store, head_name(command), attempt_id="another", fence=2, nonce="another").seal()
    order(shared, "yield", holder, reason="paused")
    while shared.wait_signal("heartbeat")["holders"]:
        pass
    assert shared.events.empty()


def test_what_outlasted_a_lease_is_announced_by_its_successor_without_working_again(
    shared: Factory, tmp_path: Path
) -> None:
    command = shared.send(do="steps", path=str(tmp_path / "steps"), seconds=0.6)
    first = shared.wait_event(AttemptSucceeded)
    shared.bus.send([next_attempt(command)])
    second = shared.wait_event(AttemptSucceeded)
    assert second.holder.fence == 2
    assert second.outputs == first.outputs
    assert (tmp_path / "steps").read_text().split() == TEN


def test_a_worker_that_was_stopped_for_a_while_goes_on(shared: Factory, tmp_path: Path) -> None:
    assert shared.process is not None
    shared.send(do="steps", path=str(tmp_path / "steps"), seconds=0.6)
    shared.wait_event(AttemptStarted)
    os.kill(shared.process.pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(shared.process.pid, signal.SIGCONT)
    shared.wait_event(AttemptSucceeded)
    assert (tmp_path / "steps").read_text().split() == TEN


@pytest.mark.servers
def test_a_drain_ends_though_the_broker_is_down_and_the_attempt_is_reported_later(
    rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", broker_url=rabbitmq.new_vhost())
    with running_factory(settings, MILLRACE_GRACE_S="0.5") as factory:
        factory.send(do="sleep", seconds=60)
        holder = factory.wait_event(AttemptStarted).holder
        time.sleep(3)  # RabbitMQ 3.10 forgets a quorum queue that is killed within seconds of its birth
        rabbitmq.stop()
        try:
            assert factory.terminate() == 0
        finally:
            rabbitmq.start()
        factory.start()
        assert factory.wait_event(AttemptFailed).holder == holder
