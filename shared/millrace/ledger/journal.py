"""The journal: every event once, numbered within its subject."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from millrace.contracts.events import Event
from millrace.ledger.database import Transaction

V = TypeVar("V")

_INSERT = (
    "INSERT INTO events (event_id, tenant, subject, seq, type, source, time, data, refused) VALUES (?,?,?,?,?,?,?,?,?)"
)


def seen(tx: Transaction, event_ids: Iterable[str]) -> Callable[[], set[str]]:
    """Ask for those of the ids that are journalled, after the runs are locked: another conductor may be writing them."""
    wanted = padded(event_ids)
    fetch = tx.ask(f"SELECT event_id FROM events WHERE event_id IN ({marks(wanted)})", wanted) if wanted else list
    return lambda: {str(i) for (i,) in fetch()}


def append_event(tx: Transaction, event: Event, *, refused: str = "") -> int:
    """Number an event within its subject and journal it; return the number."""
    numbered = tx.rows("UPDATE runs SET seq = seq + 1 WHERE run_id = ? RETURNING seq", (event.subject,))
    if numbered:
        seq = int(numbered[0][0])
    else:  # about an endpoint or an unknown run: rare, so a query instead of a counter
        seq = int(tx.rows("SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE subject = ?", (event.subject,))[0][0])
    tx.write(_INSERT, _row(event, seq, refused))
    return seq


def append_numbered(tx: Transaction, events: Iterable[tuple[Event, int, str]]) -> None:
    """Journal (event, number, why it was refused), numbered by the caller, who has locked the run and keeps its counter."""
    tx.many(_INSERT, (_row(*e) for e in events))


def marks(values: Iterable[Any]) -> str:
    """Placeholders for values in a list, such as `?,?,?`."""
    return ",".join("?" for _ in values)


def padded(values: Iterable[V]) -> Sequence[V]:
    """Values for a list of placeholders, the last one repeated up to a power of two: a few texts of SQL for all lengths."""
    found = list(values)
    return found + found[-1:] * ((1 << (len(found) - 1).bit_length()) - len(found)) if found else found


def to_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _row(event: Event, seq: int, refused: str) -> tuple[Any, ...]:
    return (
        event.id, event.tenant, event.subject, seq, event.type, event.source, event.time.timestamp(),
        json.dumps(event.data), refused,
    )  # fmt: skip
