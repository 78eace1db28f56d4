"""What workers announce: which services they serve, and how many slots they have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from millrace.ledger.database import Database, Transaction


class WorkerRow(NamedTuple):
    """A worker as last heard of."""

    worker_id: str
    host: str
    services: Sequence[str]
    classes: Mapping[str, int]
    seen_at: float


def save_workers(tx: Transaction, workers: Iterable[WorkerRow]) -> None:
    tx.many(
        "INSERT INTO workers (worker_id, host, services, classes, seen_at) VALUES (?,?,?,?,?) ON CONFLICT (worker_id)"
        " DO UPDATE SET services = excluded.services, classes = excluded.classes, seen_at = excluded.seen_at",
        (
            (w.worker_id, w.host, json.dumps(sorted(w.services)), json.dumps(dict(w.classes)), w.seen_at)
            for w in workers
        ),
    )


def live_workers(database: Database, *, seen_after: float) -> list[WorkerRow]:
    """Workers heard of lately."""
    rows = database.read(
        "SELECT worker_id, host, services, classes, seen_at FROM workers WHERE seen_at > ? ORDER BY worker_id",
        (seen_after,),
    )
    return [WorkerRow(str(w), str(h), json.loads(s), json.loads(c), float(at)) for w, h, s, c, at in rows]


def forget_workers(tx: Transaction, *, seen_before: float) -> None:
    tx.run("DELETE FROM workers WHERE seen_at < ?", (seen_before,))
