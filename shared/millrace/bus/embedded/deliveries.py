"""What happens to a message: put, claim, acknowledge, release, dead letter. Each is one statement on one row id.

Nothing is ever published again to put it back, as kombu's own virtual transports do: that would deliver it to every
queue bound to its exchange.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.bus.embedded import topology


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way in.

    Attributes:
        properties, headers: JSON-compatible.
        persistent: Whether the publisher waits for the disk.
    """

    exchange: str
    routing_key: str
    properties: dict[str, Any]
    headers: dict[str, Any]
    body: bytes
    persistent: bool

    @property
    def envelope(self) -> str:
        return json.dumps(
            {"exchange": self.exchange, "routing_key": self.routing_key, "properties": self.properties,
             "headers": self.headers}
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way out.

    Attributes:
        deliveries: How often it was delivered, this time included.
        envelope: exchange, routing_key, properties, headers.
    """

    id: int
    queue: str
    deliveries: int
    envelope: dict[str, Any]
    body: bytes


def put(db: sqlite3.Connection, queue: str, arguments: Mapping[str, Any], *, envelope: str, body: bytes) -> None:
    """Append to a queue; one with x-max-length forgets its oldest ready messages."""
    db.execute("INSERT INTO messages (queue, envelope, body) VALUES (?, ?, ?)", (queue, envelope, body))
    if "x-max-length" in arguments:
        db.execute(
            "DELETE FROM messages WHERE queue = :q AND owner = '' AND id <= ("
            "SELECT id FROM messages WHERE queue = :q AND owner = '' ORDER BY id DESC LIMIT 1 OFFSET :n)",
            {"q": queue, "n": int(arguments["x-max-length"])},
        )


def has_ready(db: sqlite3.Connection, queue: str) -> bool:
    return db.execute("SELECT 1 FROM messages WHERE queue = ? AND owner = '' LIMIT 1", (queue,)).fetchone() is not None


def claim(db: sqlite3.Connection, queue: str, *, owner: str, limit: int, forget: bool) -> list[Delivery]:
    """Take up to limit ready messages, oldest first; with forget they are acknowledged by taking them."""
    ready = "SELECT id FROM messages WHERE queue = :q AND owner = '' ORDER BY id LIMIT :n"
    columns = "id, queue, deliveries, envelope, body"
    if forget:
        sql = f"DELETE FROM messages WHERE id IN ({ready}) RETURNING {columns}"
    else:
        sql = f"UPDATE messages SET owner = :o, deliveries = deliveries + 1 WHERE id IN ({ready}) RETURNING {columns}"
    rows = db.execute(sql, {"q": queue, "n": limit, "o": owner}).fetchall()
    return [Delivery(r[0], r[1], r[2], json.loads(r[3]), r[4]) for r in sorted(rows)]


def acknowledge(db: sqlite3.Connection, ids: Iterable[int], *, owner: str) -> None:
    """Forget messages; one that was meanwhile given to somebody else stays theirs."""
    db.executemany("DELETE FROM messages WHERE id = ? AND owner = ?", [(i, owner) for i in ids])


def release(db: sqlite3.Connection, ids: Sequence[int], *, owner: str, delivered: bool) -> set[str]:
    """Make messages ready again, or dead letters when they were delivered more than x-delivery-limit times.

    Args:
        delivered: Whether a consumer saw them; if not, this delivery does not count.

    Returns:
        The queues that have new messages.
    """
    touched: set[str] = set()
    for row_id, queue, deliveries, text in _owned(db, ids, owner):
        limit = topology.parse_arguments(text).get("x-delivery-limit")
        if delivered and limit is not None and deliveries > int(limit):
            touched |= bury(db, row_id, queue=queue, arguments=topology.parse_arguments(text), reason="delivery_limit")
        else:
            db.execute(
                "UPDATE messages SET owner = '', deliveries = deliveries - ? WHERE id = ?", (int(not delivered), row_id)
            )
            touched.add(queue)
    return touched


def reject(db: sqlite3.Connection, ids: Sequence[int], *, owner: str) -> set[str]:
    """Set messages aside as dead letters; return the queues that have new messages."""
    touched: set[str] = set()
    for row_id, queue, _, text in _owned(db, ids, owner):
        touched |= bury(db, row_id, queue=queue, arguments=topology.parse_arguments(text), reason="rejected")
    return touched


def bury(db: sqlite3.Connection, row_id: int, *, queue: str, arguments: Mapping[str, Any], reason: str) -> set[str]:
    """Move a message to where its queue's dead letters go (in this file), or drop it where they go nowhere."""
    text, body = db.execute("SELECT envelope, body FROM messages WHERE id = ?", (row_id,)).fetchone()
    db.execute("DELETE FROM messages WHERE id = ?", (row_id,))
    exchange = arguments.get("x-dead-letter-exchange")
    if exchange is None:
        return set()
    envelope = json.loads(text)
    death = {"reason": reason, "queue": queue, "exchange": envelope["exchange"], "routing-keys": [envelope["routing_key"]],
             "count": 1}  # fmt: skip
    headers = envelope["headers"]
    headers["x-death"] = [death, *headers.get("x-death", [])]
    headers.setdefault("x-first-death-queue", queue)
    headers.setdefault("x-first-death-reason", reason)
    key = arguments.get("x-dead-letter-routing-key", envelope["routing_key"])
    row = db.execute("SELECT type FROM exchanges WHERE name = ?", (exchange,)).fetchone()
    targets = topology.route(db, exchange, row[0] if row else "direct", key)
    for name, options in targets.items():
        put(db, name, options, envelope=json.dumps({**envelope, "exchange": exchange, "routing_key": key}), body=body)
    return set(targets)


def _owned(db: sqlite3.Connection, ids: Sequence[int], owner: str) -> list[tuple[int, str, int, str]]:
    """Rows (id, queue, deliveries, the queue's arguments) of those ids that owner still has."""
    rows = []
    for row_id in ids:
        rows += db.execute(
            "SELECT m.id, m.queue, m.deliveries, q.arguments FROM messages m JOIN queues q ON q.name = m.queue "
            "WHERE m.id = ? AND m.owner = ?",
            (row_id, owner),
        ).fetchall()
    return rows
