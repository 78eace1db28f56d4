"""What only a server can do to its clients: drop them, restart, refuse them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from contract.bus_actors import make_started, running, subscribed, wait_until
from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.servers


@pytest.fixture
def server_bus(rabbitmq_vhost_url: str) -> Iterator[Bus]:
    bus = connect(rabbitmq_vhost_url, publish_timeout_s=30)
    yield bus
    bus.close()


def test_nothing_is_lost_when_connections_drop_again_and_again(server_bus: Bus, rabbitmq: RabbitMQ) -> None:
    received: list[str] = []
    server_bus.declare("tests", ["#"])
    with subscribed(server_bus, lambda events: received.extend(event.id for event in events)):
        for n in range(60):
            server_bus.publish([make_started(f"evt_{n}_{i}") for i in range(16)])
            if n % 20 == 10:
                rabbitmq.close_connections()
        wait_until(lambda: set(received) == {f"evt_{n}_{i}" for n in range(60) for i in range(16)})


def test_subscribers_and_listeners_survive_a_restart_of_the_broker(server_bus: Bus, rabbitmq: RabbitMQ) -> None:
    received: list[str] = []
    heard: list[str] = []
    server_bus.declare("tests", ["#"])
    server_bus.publish([make_started("evt_before")])
    with (
        subscribed(server_bus, lambda events: received.extend(event.id for event in events)),
        running(lambda stop: server_bus.listen(["#"], lambda key, _: heard.append(key), stop=stop)),
    ):
        wait_until(lambda: received == ["evt_before"])
        # RabbitMQ 3.10 writes its registry of quorum queues to the disk a moment after it has declared one: a queue
        # that is younger than a second does not survive the broker's SIGKILL.
        time.sleep(3)
        rabbitmq.stop()
        rabbitmq.start()
        server_bus.publish([make_started("evt_after")])
        wait_until(lambda: received[-1] == "evt_after")

        def is_heard() -> bool:
            server_bus.signal("hello", {})
            return bool(heard)

        wait_until(is_heard)


@pytest.mark.parametrize("call", ["check", "publish", "subscribe"])
def test_wrong_credentials_are_named_without_the_password(rabbitmq_vhost_url: str, call: str) -> None:
    parts = urlsplit(rabbitmq_vhost_url)
    bus = connect(f"amqp://guest:hunter2@{parts.hostname}:{parts.port}{parts.path}")
    with pytest.raises(errors.Unauthorized, match="MILLRACE_BROKER_URL") as caught:
        _call(bus, call)
    assert "hunter2" not in f"{caught.value} {caught.value.context}"


def _call(bus: Bus, name: str) -> None:
    if name == "check":
        bus.check()
    elif name == "publish":
        bus.publish([make_started("evt_1")])
    else:
        bus.subscribe("tests", ["#"], print, stop=threading.Event())
