"""The roster: which workers this conductor hears, what they offer, and how busy they are. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker's latest heartbeat; times are monotonic seconds of this process."""

    worker_id: str
    host: str
    services: Sequence[str]
    classes: Mapping[str, int]
    busy: Mapping[str, int]
    code: Mapping[str, str]
    at: float
    noted_at: float

    def offer(self) -> tuple[Sequence[str], Mapping[str, int], Mapping[str, str]]:
        return self.services, self.classes, self.code


class Roster:
    """Workers by id, each forgotten after a lease of silence.

    Args:
        lease_s: How long a worker counts after its last word.
        note_s: How often an unchanged offer is to be written again.
    """

    def __init__(self, *, lease_s: float, note_s: float) -> None:
        self._lease_s = lease_s
        self._note_s = note_s
        self._lock = threading.Lock()
        self._workers: dict[str, Heard] = {}

    def hear(self, beat: Mapping[str, Any], now: float) -> bool:
        """Take in a heartbeat; whether the worker is new or offers something else than before."""
        worker_id = str(beat["worker_id"])
        with self._lock:
            before = self._workers.get(worker_id)
            heard = Heard(
                worker_id, str(beat.get("host", "")), list(beat["services"]), dict(beat["classes"]), dict(beat["busy"]),
                dict(beat.get("code", {})), at=now, noted_at=before.noted_at if before else float("-inf"),
            )  # fmt: skip
            is_new = before is None or before.offer() != heard.offer()
            if is_new:
                heard = _noted(heard, float("-inf"))
            self._workers[worker_id] = heard
            return is_new

    def due(self, now: float) -> list[Heard]:
        """Workers whose offer is to be written, now or again."""
        with self._lock:
            self._workers = {k: w for k, w in self._workers.items() if now - w.at <= self._lease_s}
            return [w for w in self._workers.values() if now - w.noted_at >= self._note_s]

    def mark_noted(self, written: Sequence[Heard], now: float) -> None:
        """What was written; an offer that has changed since is due again."""
        with self._lock:
            for heard in written:
                latest = self._workers.get(heard.worker_id)
                if latest is not None and latest.offer() == heard.offer():
                    self._workers[heard.worker_id] = _noted(latest, now)

    def has_idle_slot(self, service: str, resource_class: str, now: float) -> bool:
        """Whether a worker heard of lately could take a command of this class at once."""
        with self._lock:
            return any(
                now - w.at <= self._lease_s
                and service in w.services
                and w.classes.get(resource_class, 0) > w.busy.get(resource_class, 0)
                for w in self._workers.values()
            )


def _noted(heard: Heard, at: float) -> Heard:
    return replace(heard, noted_at=at)
