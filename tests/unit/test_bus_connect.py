"""Broker URLs, and what a user reads when the broker is not there."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.bus_actors import make_command, make_started
from millrace import errors
from millrace.bus import Bus
from millrace.bus.celery_app import command_queues, make_app
from millrace.bus.connect import connect


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def absent() -> Bus:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return connect(f"amqp://joe:hunter2@127.0.0.1:{port}/", publish_timeout_s=0.5)


@pytest.mark.parametrize("url", ["", "redis://localhost", "embedded://relative/path", "amqp://", "amqp:/x"])
def test_a_wrong_url_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        connect(url)
    assert caught.value.field == "MILLRACE_BROKER_URL"


def test_publishing_without_a_broker_fails_soon_and_says_what_to_do(absent: Bus) -> None:
    started = time.monotonic()
    with pytest.raises(errors.Unavailable, match="RabbitMQ at 127") as caught:
        absent.publish([make_started("evt_1")])
    assert time.monotonic() - started < 2
    assert caught.value.remedy
    with pytest.raises(errors.Unavailable):
        absent.send([make_command("a1")])


def test_no_error_holds_the_password(absent: Bus) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        absent.check()
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.context} {absent!r}"


def test_a_signal_without_a_broker_is_dropped(absent: Bus) -> None:
    started = time.monotonic()
    for _ in range(100):
        absent.signal("a", {})
    assert time.monotonic() - started < 2


def test_a_broker_that_never_answers_is_unavailable(deaf_port: int) -> None:
    bus = connect(f"amqp://joe:hunter2@127.0.0.1:{deaf_port}/", publish_timeout_s=1)
    started = time.monotonic()
    with pytest.raises(errors.Unavailable):
        bus.publish([make_started("evt_1")])
    assert time.monotonic() - started < 6


def test_a_file_in_the_place_of_the_embedded_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bus").write_text("")
    with pytest.raises(errors.Unavailable, match="The embedded broker in"):
        connect(f"embedded://{tmp_path}/bus").check()


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "durable.sqlite").write_bytes(b"this is no database" * 1000)
    with pytest.raises(errors.Corrupt, match="damaged"):
        connect(f"embedded://{tmp_path}").check()


def test_a_worker_consumes_the_queues_of_its_services_and_classes() -> None:
    names = [queue.name for queue in command_queues(["training", "cleaning"], ["cpu", "gpu"])]
    assert names == [f"commands.{s}.{c}.v1" for s in ("training", "cleaning") for c in ("cpu", "gpu")]


def test_the_celery_application_acknowledges_late_and_reads_json_only(tmp_path: Path) -> None:
    conf = make_app(f"embedded://{tmp_path}").conf
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 1)
    assert conf.accept_content == ["json"]
    assert not conf.task_create_missing_queues
