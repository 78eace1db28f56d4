"""What waits: the inbox (from gateways and other runs), the outbox (to the broker), and timers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import structlog
from pydantic_core import from_json

from millrace.contracts.base import Contract
from millrace.contracts.events import Event, EventRefused, make_event
from millrace.ledger.database import Database, Transaction
from millrace.ledger.journal import marks, padded

OutboxKind = Literal["command", "event", "signal", "ref"]

_BATCH = "batch"
"""Kind of a row that holds many messages, [[kind, message], ...]. A row of any other kind is one message of that kind."""

log = structlog.get_logger()


class Outgoing(NamedTuple):
    """A row of the outbox: what one transaction decided to send, sent as one."""

    id: str
    messages: Sequence[tuple[OutboxKind, Contract]]


class Waiting(NamedTuple):
    """A row of the outbox as it is read: messages as JSON values."""

    id: str
    messages: Sequence[tuple[OutboxKind, dict[str, Any]]]


def put_inbox(tx: Transaction, event: Event, *, run_id: str, now: float) -> None:
    """Accept an event about a run; accepting it twice is once."""
    tx.write(
        "INSERT INTO inbox (event_id, run_id, event, received_at) VALUES (?,?,?,?) ON CONFLICT (event_id) DO NOTHING",
        (event.id, run_id, event.to_json(), now),
    )


def take_inbox(tx: Transaction, *, limit: int) -> list[Event]:
    """Remove and return the oldest events that no other conductor is taking, in order of their ids."""
    rows = tx.rows(
        f"DELETE FROM inbox WHERE event_id IN (SELECT event_id FROM inbox ORDER BY event_id LIMIT ?{_skip(tx)})"
        " RETURNING event_id, run_id, event",
        (limit,),
    )
    return [_inbox_event(*row) for row in sorted(rows)]


def take_inbox_of(tx: Transaction, run_id: str) -> list[Event]:
    """Remove and return what was accepted for one run, waiting for whoever is taking it."""
    rows = tx.rows("DELETE FROM inbox WHERE run_id = ? RETURNING event_id, run_id, event", (run_id,))
    return [_inbox_event(*row) for row in sorted(rows)]


def put_outbox(tx: Transaction, rows: Sequence[Outgoing], *, owner: str, now: float) -> None:
    """Queue rows for the relay of `owner`; it sends them in the order of their ids."""
    tx.many(
        "INSERT INTO outbox (id, kind, body, owner, created_at) VALUES (?,?,?,?,?)",
        [(row.id, _BATCH, _body(row), owner, now) for row in rows],
    )


def read_outbox(database: Database, *, owner: str, stale_before: float, after: str = "", limit: int) -> list[Waiting]:
    """Rows to relay with ids behind one: those of `owner`, and those that another conductor left lying."""
    rows = database.read(
        "SELECT id, kind, body FROM outbox WHERE (owner = ? OR created_at < ?) AND id > ? ORDER BY id LIMIT ?",
        (owner, stale_before, after, limit),
    )
    return [Waiting(str(i), from_json(body) if kind == _BATCH else [(kind, from_json(body))]) for i, kind, body in rows]


def mark_sent(tx: Transaction, ids: Sequence[str]) -> None:
    if sent := padded(ids):
        tx.write(f"DELETE FROM outbox WHERE id IN ({marks(sent)})", sent)


def set_timer(tx: Transaction, timer_id: str, event: Event, *, run_id: str, due_at: float) -> None:
    tx.write(
        "INSERT INTO timers (timer_id, run_id, due_at, event) VALUES (?,?,?,?) ON CONFLICT (timer_id) DO NOTHING",
        (timer_id, run_id, due_at, event.to_json()),
    )


def take_due_timers(tx: Transaction, *, now: float, limit: int) -> list[Event]:
    """Remove and return what is due and no other conductor is taking."""
    rows = tx.rows(
        "DELETE FROM timers WHERE timer_id IN"
        f" (SELECT timer_id FROM timers WHERE due_at <= ? ORDER BY due_at LIMIT ?{_skip(tx)}) RETURNING timer_id, run_id, event",
        (now, limit),
    )
    return [_inbox_event(*row) for row in sorted(rows)]


def drop_timers(tx: Transaction, run_id: str) -> None:
    tx.write("DELETE FROM timers WHERE run_id = ?", (run_id,))


def _skip(tx: Transaction) -> str:
    return f"{tx.lock} SKIP LOCKED" if tx.lock else ""


def _inbox_event(event_id: str, run_id: str, body: str) -> Event:
    """The event; one that this version cannot read becomes a refusal, which ends its run instead of every conductor."""
    try:
        return Event.model_validate_json(body)
    except ValueError as error:
        log.error("inbox_unreadable", event_id=event_id, run=run_id, reason=str(error)[:500])
        data = EventRefused(run_id=run_id, event_id=event_id, reason="it cannot be read by this version")
        return make_event(data, source="conductor", subject=run_id, id=f"{event_id}.refused")


def _body(row: Outgoing) -> str:
    messages = (f'["{kind}",{message.model_dump_json(by_alias=True)}]' for kind, message in row.messages)
    return f"[{','.join(messages)}]"
