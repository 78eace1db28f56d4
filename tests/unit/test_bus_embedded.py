"""What is the embedded transport's own: files, death of an owner, wake-ups."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import ResourceLocked
from kombu import Connection, Consumer, Exchange, Producer, Queue

from millrace.bus.connect import broker_url
from millrace.bus.embedded.locks import LockFile
from millrace.bus.embedded.owners import Owner, reap


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with Connection(broker_url(f"embedded://{tmp_path}")) as connection:
        yield connection


def publish(connection: Connection, *bodies: str, exchange: str = "", routing_key: str = "q") -> None:
    producer = Producer(connection.channel())
    for body in bodies:
        producer.publish(body, exchange=exchange, routing_key=routing_key)


def drain(connection: Connection, queue: Queue, *, count: int, **options: Any) -> list[str]:
    received: list[str] = []
    with Consumer(connection, queues=[queue], on_message=lambda m: received.append(m.payload), **options):
        while len(received) < count:
            connection.drain_events(timeout=5)
    return received


def test_messages_are_delivered_oldest_first(connection: Connection) -> None:
    Queue("q").bind(connection.default_channel).declare()
    publish(connection, *map(str, range(100)))
    assert drain(connection, Queue("q"), count=100, no_ack=True) == [str(n) for n in range(100)]


def test_a_bounded_queue_forgets_its_oldest(connection: Connection) -> None:
    queue = Queue("q", exclusive=True, queue_arguments={"x-max-length": 3})
    queue.bind(connection.default_channel).declare()
    publish(connection, *"abcdef")
    assert drain(connection, queue, count=3, no_ack=True) == ["d", "e", "f"]


def test_no_more_than_the_prefetch_count_is_delivered_unacknowledged(connection: Connection) -> None:
    Queue("q").bind(connection.default_channel).declare()
    publish(connection, *"abcd")
    with pytest.raises(TimeoutError):
        drain(connection, Queue("q"), count=4, prefetch_count=2)


def test_what_was_delivered_and_not_acknowledged_comes_back_when_the_connection_closes(tmp_path: Path) -> None:
    url = broker_url(f"embedded://{tmp_path}")
    with Connection(url) as first:
        Queue("q").bind(first.default_channel).declare()
        publish(first, "a")
        assert drain(first, Queue("q"), count=1) == ["a"]
    with Connection(url) as second:
        message = Queue("q").bind(second.default_channel).get()
    assert message.delivery_info["redelivered"]
    assert message.headers["x-delivery-count"] == 1


def test_a_rejected_message_returns_to_its_own_queue_only(connection: Connection) -> None:
    exchange = Exchange("news", type="topic")
    queues = [Queue(name, exchange, routing_key="#") for name in ("one", "two")]
    for queue in queues:
        queue.bind(connection.default_channel).declare()
    publish(connection, "a", exchange="news", routing_key="x")
    queues[0].bind(connection.default_channel).get().reject(requeue=True)
    sizes = [queue.bind(connection.default_channel).queue_declare(passive=True).message_count for queue in queues]
    assert sizes == [1, 1]


def test_an_exclusive_queue_is_its_owners_alone_and_goes_with_it(tmp_path: Path) -> None:
    url, queue = broker_url(f"embedded://{tmp_path}"), Queue("mine", exclusive=True)
    with Connection(url) as other:
        with Connection(url) as owner:
            queue.bind(owner.default_channel).declare()
            with pytest.raises(ResourceLocked):
                queue.bind(other.default_channel).declare()
        queue.bind(other.default_channel).declare()


def test_a_dead_owner_is_reaped_once_and_a_living_one_never(tmp_path: Path) -> None:
    living, dead, buried = Owner(tmp_path), Owner(tmp_path), list[str]()
    dead.abandon()
    reap(tmp_path, buried.append)
    reap(tmp_path, buried.append)
    assert buried == [dead.id]
    living.leave()
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_forked_child_does_not_keep_its_dead_parent_alive(tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:
        lock = LockFile(tmp_path / "it")
        lock.acquire()
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        (tmp_path / "child").write_text(str(child))
        time.sleep(20)
        os._exit(0)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.01)
    child = int((tmp_path / "child").read_text())
    mine = LockFile(tmp_path / "it")
    try:
        assert not mine.acquire()
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert mine.acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        mine.close()


def test_a_message_wakes_its_consumer_at_once(tmp_path: Path) -> None:
    url = broker_url(f"embedded://{tmp_path}")
    with Connection(url) as sender, Connection(url) as receiver:
        Queue("q").bind(receiver.default_channel).declare()
        arrived: list[float] = []
        with Consumer(receiver, queues=[Queue("q")], on_message=lambda _: arrived.append(time.monotonic())):
            with pytest.raises(TimeoutError):
                receiver.drain_events(timeout=0.1)  # now the next look by itself is more than a second away
            sent_at = time.monotonic()
            publish(sender, "a")
            receiver.drain_events(timeout=1)
    assert arrived[0] - sent_at < 0.5


def test_an_idle_consumer_takes_no_processor_time(connection: Connection) -> None:
    Queue("q").bind(connection.default_channel).declare()
    with Consumer(connection, queues=[Queue("q")], on_message=print):
        started = time.process_time()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=3)
        assert time.process_time() - started < 0.03


def test_files_of_signals_from_before_a_reboot_are_never_opened(tmp_path: Path) -> None:
    stale = tmp_path / "transient-00000000.sqlite"
    stale.write_bytes(b"torn")
    with Connection(broker_url(f"embedded://{tmp_path}")) as connection:
        connection.connect()
    assert not stale.exists()


def test_a_persistent_message_is_synced_and_a_signal_is_not(
    connection: Connection,
) -> None:
    connection.connect()
    statements: list[str] = []
    broker = connection.connection.broker
    for database in (broker._lasting, broker._transient):
        database._connection.set_trace_callback(statements.append)
    Queue("lasting").bind(connection.default_channel).declare()
    Queue("mine", exclusive=True).bind(connection.default_channel).declare()
    statements.clear()
    publish(connection, "a", routing_key="mine")
    assert not [s for s in statements if "synchronous" in s]
    statements.clear()
    publish(connection, "a", routing_key="lasting")
    assert [s for s in statements if "synchronous" in s or s == "COMMIT"] == [
        "PRAGMA synchronous=FULL",
        "COMMIT",
        "PRAGMA synchronous=NORMAL",
    ]


def test_the_signals_file_never_waits_for_the_disk(connection: Connection) -> None:
    connection.connect()
    database: sqlite3.Connection = connection.connection.broker._transient._connection
    assert database.execute("PRAGMA synchronous").fetchone() == (0,)


def test_what_an_owner_without_a_file_holds_comes_back(tmp_path: Path) -> None:
    url = broker_url(f"embedded://{tmp_path}")
    with Connection(url) as first, Connection(url) as second:
        Queue("q").bind(first.default_channel).declare()
        publish(first, "a")
        assert drain(first, Queue("q"), count=1) == ["a"]
        for path in (tmp_path / "owners").iterdir():
            path.unlink()
        assert drain(second, Queue("q"), count=1) == ["a"]


def test_a_consumer_that_ends_does_not_sit_out_its_wait(connection: Connection) -> None:
    Queue("q").bind(connection.default_channel).declare()
    threading.Timer(0.1, connection.connection.wait_no_more).start()
    started = time.monotonic()
    for _ in range(2):  # Celery's loop waits once more on its way out
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=20)
    assert time.monotonic() - started < 5
    publish(connection, "a")
    assert drain(connection, Queue("q"), count=1) == ["a"]
