"""What workers announce: which services they serve, and how many slots they have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from millrace.ledger.database import Database, Transaction


class WorkerRow(NamedTuple):
    """A worker as last heard of; `code` is the digest of the code that it has of each stage kind."""

    worker_id: str
    host: str
    services: Sequence[str]
    classes: Mapping[str, int]
    seen_at: float
    code: Mapping[str, str]


def save_workers(tx: Transaction, workers: Iterable[WorkerRow]) -> None:
    tx.many(
        "INSERT INTO workers (worker_id, host, services, classes, seen_at, code) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (worker_id) DO UPDATE SET services = excluded.services, classes = excluded.classes,"
        " seen_at = excluded.seen_at, code = excluded.code",
        (
            (
                w.worker_id,
                w.host,
                json.dumps(sorted(w.services)),
                json.dumps(dict(w.classes)),
                w.seen_at,
                json.dumps(dict(w.code)),
            )
            for w in workers
        ),
    )


def live_workers(database: Database, *, seen_after: float) -> list[WorkerRow]:
    """Workers heard of lately."""
    rows = database.read(
        "SELECT worker_id, host, services, classes, seen_at, code FROM workers WHERE seen_at > ? ORDER BY worker_id",
        (seen_after,),
    )
    return [
        WorkerRow(str(w), str(h), json.loads(s), json.loads(c), float(at), json.loads(code))
        for w, h, s, c, at, code in rows
    ]


def forget_workers(tx: Transaction, *, seen_before: float) -> None:
    tx.run("DELETE FROM workers WHERE seen_at < ?", (seen_before,))


def slots_of(workers: Iterable[WorkerRow]) -> dict[tuple[str, str], int]:
    """Announced slots by service and resource class; a worker of several services offers its slots to each."""
    slots: dict[tuple[str, str], int] = {}
    for worker in workers:
        for service in worker.services:
            for resource_class, count in worker.classes.items():
                slots[service, resource_class] = slots.get((service, resource_class), 0) + count
    return slots


def agreed_code(workers: Iterable[WorkerRow]) -> dict[tuple[str, str], str]:
    """Digest of the code by service and stage kind; empty where workers of the service have different code, or none.

    Who offers no slot, because it drains or died, is not asked.
    """
    agreed: dict[tuple[str, str], str] = {}
    everyone = [worker for worker in workers if any(worker.classes.values())]
    kinds = {kind for worker in everyone for kind in worker.code}
    for worker in everyone:
        for service in worker.services:
            for kind in kinds:
                mine = worker.code.get(kind, "")
                agreed[service, kind] = mine if agreed.get((service, kind), mine) == mine else ""
    return agreed
