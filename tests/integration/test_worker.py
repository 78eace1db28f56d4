"""A worker as a process: every attempt ends in one event, whatever its child does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import amqp
import kombu
import pytest
from kombu.transport.native_delayed_delivery import CELERY_DELAYED_DELIVERY_EXCHANGE

from millrace.contracts.events import AttemptFailed, AttemptStarted, AttemptSucceeded, AttemptYielded
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.artifacts import read_manifest
from millrace.store.connect import open_store
from millrace.store.pages import write_pages
from probes.worker import Factory, Told, is_alive, make_command, probe_env, running_factory
from servers.rabbitmq import RabbitMQ


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def started(settings: Settings) -> Iterator[Factory]:
    with running_factory(settings) as factory:
        yield factory


@pytest.fixture
def shared(started: Factory) -> Factory:
    """One worker for all tests that leave it as it was; what an earlier test left unheard is forgotten."""
    started.forget()
    return started


def failure(factory: Factory) -> AttemptFailed:
    return factory.wait_event(AttemptFailed)


def test_a_one_task_stage_ends_within_its_first_attempt(shared: Factory) -> None:
    shared.send()
    ended = shared.wait_event(AttemptSucceeded)
    assert ended.outputs is not None
    assert ended.outputs.summary == {"squares": [0]}
    assert (ended.device, len(ended.code_digest)) == ("cpu", 64)


def test_many_tasks_are_planned_as_an_artifact_then_worked_on_and_merged(shared: Factory, store: Store) -> None:
    shared.send(tasks=3)
    planned = shared.wait_event(AttemptSucceeded)
    assert planned.num_tasks == 3
    rows = []
    for index in range(3):
        shared.send(tasks=3, phase="work", index=index, plan=planned.plan)
        rows.append(shared.wait_event(AttemptSucceeded).result or {})
    shared.send(tasks=3, phase="merge", plan=planned.plan, results=write_pages(store, "plan", rows))
    merged = shared.wait_event(AttemptSucceeded).outputs
    assert merged is not None
    assert merged.metrics == {"total": 5.0}


def test_wrong_configuration_names_the_field(shared: Factory) -> None:
    shared.send(tasks="many")
    error = failure(shared).error
    assert (error.code, error.field) == ("invalid_spec", "stages.probe.with.tasks")


def test_a_worker_with_other_code_than_expected_declines(shared: Factory) -> None:
    shared.send(code_digest="0" * 64)
    error = shared.wait_event(AttemptFailed).error
    assert (error.code, error.retryable) == ("unavailable", True)


def test_what_stage_code_raises_is_told_in_one_line_with_file_and_line(shared: Factory, store: Store) -> None:
    shared.send(do="raise")
    failed = failure(shared)
    assert failed.error.code == "stage_failed"
    assert "ValueError: the label is odd (probe_stage.py:" in failed.error.message
    assert "Traceback" not in failed.error.message
    assert failed.logs is not None
    entry = read_manifest(store, failed.logs.digest).files[0]
    assert b"Traceback" in store.get_bytes(entry.digest)


def test_a_memory_error_is_resource_exhaustion(shared: Factory) -> None:
    shared.send(do="exhaust")
    error = failure(shared).error
    assert (error.code, error.retryable) == ("resource_exhausted", False)


@pytest.mark.parametrize(("do", "said"), [("segv", "SIGSEGV"), ("exit", "code 3")])
def test_a_crash_of_the_child_is_reported_at_once_and_retryable(shared: Factory, do: str, said: str) -> None:
    began = time.monotonic()
    shared.send(do=do)
    error = failure(shared).error
    assert (error.code, error.retryable) == ("worker_lost", True)
    assert said in error.message
    assert time.monotonic() - began < 5


def test_a_child_that_holds_the_interpreters_lock_is_alive(shared: Factory) -> None:
    sent = shared.send(do="hold_gil", seconds=2)
    shared.wait_event(AttemptStarted)
    beats = [shared.wait_signal("heartbeat", matching=sent.attempt_id) for _ in range(3)]
    assert beats[0]["busy"] == {"cpu": 1}
    shared.wait_event(AttemptSucceeded)


def test_an_attempt_has_a_time_limit(shared: Factory) -> None:
    shared.send(do="sleep", seconds=60, timeout_s=0.5)
    error = failure(shared).error
    assert (error.code, error.field) == ("timed_out", "stages.probe.timeout_s")


def test_what_a_child_leaves_behind_dies_with_its_attempt(shared: Factory, tmp_path: Path) -> None:
    shared.send(do="stray", path=str(tmp_path / "pid"))
    shared.wait_event(AttemptSucceeded)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_stop_kills_the_attempt_and_nothing_is_announced(shared: Factory, tmp_path: Path) -> None:
    sent = shared.send(do="stray", path=str(tmp_path / "pid"), seconds=60)
    holder = shared.wait_event(AttemptStarted).holder
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    shared.wait_signal("heartbeat", matching=holder.nonce)
    order = {"attempt_id": sent.attempt_id, "fence": 1, "nonce": holder.nonce, "reason": "cancelled"}
    shared.bus.signal(f"control.worker.{holder.worker}", {"stop": [order]})
    while shared.wait_signal("heartbeat")["holders"]:
        pass
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert shared.events.empty()


def test_an_attempt_told_to_stop_before_it_starts_is_dropped(shared: Factory) -> None:
    command = make_command()
    order = {"attempt_id": command.attempt_id, "fence": 1, "nonce": None, "reason": "cancelled"}
    shared.bus.signal("control.all", {"stop": [order], "announce": True})
    shared.wait_signal("heartbeat")
    time.sleep(0.5)
    shared.bus.send([command])
    following = shared.send()
    assert shared.wait_event(AttemptSucceeded).run_id == following.run_id


def test_progress_and_log_lines_are_signalled_and_the_latest_progress_wins(shared: Factory, store: Store) -> None:
    sent = shared.send(do="talk", seconds=0.3)
    told = shared.wait_signals(sent.run_id, lambda t: bool(t["progress"] and t["metric"]) and len(lines_of(t)) >= 2)
    assert told["progress"][0]["total"] == 200
    assert told["metric"][0]["name"] == "loss"
    assert lines_of(told) == ["hello from the probe", "shard_written rows=3"]
    assert shared.wait_event(AttemptSucceeded, run_id=sent.run_id).logs is not None


def lines_of(told: Told) -> list[str]:
    return [line["text"] for signal in told["log"] for line in signal["lines"]]


def test_a_commands_environment_is_its_childs(shared: Factory, tmp_path: Path) -> None:
    sent = shared.send(do="mark", path=str(tmp_path / "word"), env={"PROBE_WORD": "spoken"})
    shared.wait_event(AttemptSucceeded, run_id=sent.run_id)
    assert (tmp_path / "word").read_text() == "spoken"


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.servers)])
def broker_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A factory of the test's own, on either transport."""
    url = request.getfixturevalue("rabbitmq_vhost_url") if request.param == "rabbitmq" else ""
    return Settings(home=tmp_path / "home", broker_url=url)


def test_after_a_kill_of_the_worker_nothing_of_the_attempt_remains(broker_settings: Settings, tmp_path: Path) -> None:
    with running_factory(broker_settings) as factory:
        factory.send(do="stray", path=str(tmp_path / "pid"), seconds=60)
        factory.wait_event(AttemptStarted)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        factory.kill()
        deadline = time.monotonic() + 2
        while is_alive(int((tmp_path / "pid").read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_draining_worker_hands_back_what_exceeds_its_grace_and_exits_0(broker_settings: Settings) -> None:
    with running_factory(broker_settings, MILLRACE_GRACE_S="0.5") as factory:
        factory.send(do="sleep", seconds=60)
        factory.wait_event(AttemptStarted)
        assert factory.terminate() == 0
        factory.wait_event(AttemptYielded)
        assert factory.bus.queue_depth("commands.probe.cpu.v1") == 0


def test_a_draining_worker_finishes_what_fits_its_grace(broker_settings: Settings) -> None:
    with running_factory(broker_settings) as factory:
        factory.send(do="sleep", seconds=1)
        factory.wait_event(AttemptStarted)
        assert factory.terminate() == 0
        factory.wait_event(AttemptSucceeded)
        assert factory.bus.queue_depth("commands.probe.cpu.v1") == 0


def test_an_idle_worker_stops_within_seconds_and_offers_nothing_any_more(broker_settings: Settings) -> None:
    with running_factory(broker_settings) as factory:
        began = time.monotonic()
        assert factory.terminate() == 0
        assert time.monotonic() - began < 10
        assert factory.wait_signal("heartbeat", matching="'classes': {'cpu': 0}")


def test_a_worker_declares_nothing_for_delays_of_celerys(rabbitmq_vhost_url: str, tmp_path: Path) -> None:
    with (
        running_factory(Settings(home=tmp_path / "home", broker_url=rabbitmq_vhost_url)),
        kombu.Connection(rabbitmq_vhost_url) as connection,
        pytest.raises(amqp.exceptions.NotFound),
    ):
        connection.channel().exchange_declare(CELERY_DELAYED_DELIVERY_EXCHANGE, "topic", passive=True)


@pytest.mark.servers
def test_an_outcome_is_announced_once_the_broker_is_back(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", broker_url=rabbitmq.new_vhost())
    with running_factory(settings) as factory:
        factory.send(do="sleep", seconds=3)
        nonce = factory.wait_event(AttemptStarted).holder.nonce
        rabbitmq.stop()
        time.sleep(4)
        rabbitmq.start()
        heard = [factory.next_event()]
        while not isinstance(heard[-1], AttemptSucceeded) or heard[-1].holder.nonce != nonce:
            heard.append(factory.next_event())


def test_refused_credentials_end_the_worker_with_a_message(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq.new_vhost().replace(f":{urlsplit(rabbitmq.url).password}@", ":wrong@")
    settings = Settings(home=tmp_path / "home", broker_url=url)
    command = [sys.executable, "-m", "millrace.runtime.service", "worker", "probe"]
    done = subprocess.run(command, env=probe_env(settings), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "refused user" in done.stderr.splitlines()[-1]
    assert "wrong" not in done.stderr
    assert "Traceback" not in done.stderr
