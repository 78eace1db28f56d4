"""Exchanges, queues and bindings: declared once, remembered in the file, equal for all processes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed, ResourceLocked

from millrace.bus.embedded.routing import matches


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as declared.

    Attributes:
        owner: Of an exclusive queue: the connection it dies with.
        auto_delete: Whether it goes when its last consumer does.
        arguments: RabbitMQ's: x-delivery-limit, x-dead-letter-exchange, x-dead-letter-routing-key and x-max-length
            are honoured; others are kept, so that a later declaration must agree.
    """

    name: str
    owner: str = ""
    auto_delete: bool = False
    arguments: str = "{}"

    @property
    def options(self) -> dict[str, Any]:
        return parse_arguments(self.arguments)


@lru_cache(maxsize=1024)
def parse_arguments(text: str) -> dict[str, Any]:
    """Decode a queue's arguments; the answer is shared, so nobody may change it."""
    return dict(json.loads(text))


def find_queue(db: sqlite3.Connection, name: str) -> Queue | None:
    row = db.execute("SELECT name, owner, auto_delete, arguments FROM queues WHERE name = ?", (name,)).fetchone()
    return Queue(row[0], row[1], bool(row[2]), row[3]) if row else None


def check_equal(found: Queue, declared: Queue) -> None:
    """A second declaration must agree with the first, as RabbitMQ demands.

    Raises:
        ResourceLocked: The queue is another connection's own.
        PreconditionFailed: It was declared with other arguments.
    """
    if found.owner and found.owner != declared.owner:
        raise ResourceLocked(f"queue {found.name!r} is another connection's own", (50, 10), "Queue.declare", 405)
    if found != declared:
        raise PreconditionFailed(
            f"queue {found.name!r} was declared with {found.arguments}, not {declared.arguments}: name a new version",
            (50, 10), "Queue.declare", 406,
        )  # fmt: skip


def add_queue(db: sqlite3.Connection, queue: Queue) -> None:
    db.execute(
        "INSERT OR IGNORE INTO queues (name, owner, auto_delete, arguments) VALUES (?, ?, ?, ?)",
        (queue.name, queue.owner, int(queue.auto_delete), queue.arguments),
    )


def remove_queues(db: sqlite3.Connection, names: Iterable[str]) -> None:
    """Remove queues with their messages, bindings and consumers."""
    for name in names:
        for table, column in (("messages", "queue"), ("bindings", "queue"), ("consumers", "queue"), ("queues", "name")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))


def remove_idle(db: sqlite3.Connection, names: Iterable[str]) -> None:
    """Remove those auto-delete queues among names that nobody consumes any more."""
    for name in names:
        queue = find_queue(db, name)
        busy = db.execute("SELECT 1 FROM consumers WHERE queue = ? LIMIT 1", (name,)).fetchone()
        if queue is not None and queue.auto_delete and busy is None:
            remove_queues(db, [name])


def route(db: sqlite3.Connection, exchange: str, exchange_type: str, routing_key: str) -> dict[str, dict[str, Any]]:
    """Return this file's queues that the message reaches, with their arguments. '' is the default exchange."""
    if not exchange:
        queue = find_queue(db, routing_key)
        return {} if queue is None else {queue.name: queue.options}
    rows = db.execute(
        "SELECT b.routing_key, q.name, q.arguments FROM bindings b JOIN queues q ON q.name = b.queue WHERE b.exchange = ?",
        (exchange,),
    )
    return {
        name: parse_arguments(arguments)
        for pattern, name, arguments in rows
        if matches(exchange_type, pattern, routing_key)
    }


def not_found(kind: str, name: str) -> NotFound:
    return NotFound(f"no {kind} {name!r}", (50, 10), f"{kind}.declare", 404)
