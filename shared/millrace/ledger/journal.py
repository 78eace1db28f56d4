"""The journal: every event once, numbered within its subject."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from millrace.contracts.events import Event
from millrace.ledger.database import Transaction

_INSERT = (
    "INSERT INTO events (event_id, tenant, subject, seq, type, source, time, data, refused) VALUES (?,?,?,?,?,?,?,?,?)"
)


def seen(tx: Transaction, event_ids: Iterable[str]) -> set[str]:
    """Those of the ids that are journalled. Ask after the runs are locked, or another conductor may be writing them."""
    wanted = list(event_ids)
    if not wanted:
        return set()
    rows = tx.rows(f"SELECT event_id FROM events WHERE event_id IN ({marks(wanted)})", wanted)
    return {str(i) for (i,) in rows}


def append_event(tx: Transaction, event: Event, *, refused: str = "") -> int:
    """Number an event within its subject and journal it; return the number."""
    numbered = tx.rows("UPDATE runs SET seq = seq + 1 WHERE run_id = ? RETURNING seq", (event.subject,))
    if numbered:
        seq = int(numbered[0][0])
    else:  # about an endpoint or an unknown run: rare, so a query instead of a counter
        seq = int(tx.rows("SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE subject = ?", (event.subject,))[0][0])
    tx.run(_INSERT, _row(event, seq, refused))
    return seq


def append_numbered(tx: Transaction, events: Iterable[tuple[Event, int, str]]) -> None:
    """Journal (event, number, why it was refused), numbered by the caller, who has locked the run and keeps its counter."""
    tx.many(_INSERT, (_row(*e) for e in events))


def marks(values: Iterable[Any]) -> str:
    """Placeholders for values in a list, such as `?,?,?`."""
    return ",".join("?" for _ in values)


def to_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _row(event: Event, seq: int, refused: str) -> tuple[Any, ...]:
    return (
        event.id, event.tenant, event.subject, seq, event.type, event.source, event.time.timestamp(),
        json.dumps(event.data), refused,
    )  # fmt: skip
