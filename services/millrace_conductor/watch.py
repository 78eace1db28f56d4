"""Watching attempts: who holds them, whose silence has lasted too long, which commands nobody started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.events import AttemptFailed, ErrorInfo, Event, make_event
from millrace.ledger import tasks
from millrace.ledger.database import Database
from millrace.ledger.state import TaskState
from millrace.settings import Settings
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import holder_of
from millrace_conductor.leases import Leases
from millrace_conductor.roster import Roster

log = structlog.get_logger()

START_DEADLINE_S = 60.0
"""How long a command may wait while a slot of its class is idle and nobody says to hold it; then it is taken for lost."""

NOTE_S = 10.0
"""How often a worker's unchanged offer is written again, at least three times a lease."""


class Watch:
    """What one conductor hears of workers. Signals come from one thread; `look` and `take_back` belong to another."""

    def __init__(
        self, settings: Settings, database: Database, bus: Bus, *, start_deadline_s: float = START_DEADLINE_S
    ) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._start_deadline_s = start_deadline_s
        self._leases = Leases(lease_s=settings.lease_s, echo_gap_s=3 * settings.heartbeat_s)
        self.roster = Roster(lease_s=settings.lease_s, note_s=min(NOTE_S, settings.lease_s / 3))

    def hear_echo(self) -> bool:
        """The heartbeat path works; whether it did not before."""
        return self._leases.hear_echo(time.monotonic())

    def hear_worker(self, beat: Mapping[str, Any]) -> bool:
        """Take in a heartbeat and answer it; whether the worker offers something new."""
        now = time.monotonic()
        # By attempt too: of one that began in an outage, no event may have come yet.
        self._leases.hear([name for h in beat["holders"] for name in (h["nonce"], h["attempt_id"])], now)
        is_new = self.roster.hear(beat, now)
        if beat["holders"]:
            self._answer(str(beat["worker_id"]), beat["holders"])
        return is_new

    def look(self, conductor: str) -> tuple[list[Event], list[TaskState]]:
        """What is due: events for attempts that were lost, and tasks whose command was."""
        found = tasks.all_open_tasks(self._database)
        running = {t.nonce: t for t in found if t.status == "running"}
        sent = {holder_of(t).attempt_id: t for t in found if t.status == "dispatched"}
        silent = self._leases.lost([*running, *sent], time.monotonic())
        lost = [_lost_event(running[n], conductor, self._settings.lease_s) for n in silent if n in running]
        return lost, [sent[n] for n in silent if n in sent and self._is_late(sent[n])]

    def take_back(self, folding: Folding, late: Sequence[TaskState]) -> None:
        """Make tasks pending again, unless they have begun since; the dispatcher gives them a new fence."""
        folding.lock(t.key.run_id for t in late)
        folding.load_tasks(t.key for t in late)
        for seen in late:
            task = folding.task(seen.key)
            if task is not None and (task.status, task.fence) == ("dispatched", seen.fence):
                folding.save_task(replace(task, status="pending", dispatched_at=None, ready_at=folding.now))

    def _is_late(self, task: TaskState) -> bool:
        waited_s = time.time() - (task.dispatched_at or time.time())
        return waited_s > self._start_deadline_s and self.roster.has_idle_slot(
            task.service, task.resource_class, time.monotonic()
        )

    def _answer(self, worker: str, holders: Sequence[Mapping[str, Any]]) -> None:
        """Answer every holder that is not the bound one with `stop`, every time it beats; and with `hold` one that asks.

        Of an attempt that nobody has begun, by what is journalled, nothing is said: it asks again.
        """
        try:
            found = tasks.all_open_tasks(self._database)
        except errors.Unavailable:
            return  # it beats again
        bound = {t.nonce for t in found if t.nonce}
        unbound = {holder_of(t).attempt_id for t in found if not t.nonce}
        held = [_named(h) for h in holders if h.get("asks") and h["nonce"] in bound]
        strangers = [h for h in holders if h["nonce"] not in bound and h["attempt_id"] not in unbound]
        orders: dict[str, Any] = {"hold": held} if held else {}
        if strangers:
            orders["stop"] = [{**_named(h), "reason": "stale"} for h in strangers]
        if orders:
            self._bus.signal(f"control.worker.{worker}", orders)


def _named(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {name: holder[name] for name in ("attempt_id", "fence", "nonce")}


def _lost_event(task: TaskState, conductor: str, lease_s: float) -> Event:
    error = ErrorInfo(
        code="worker_lost",
        message=f"Worker {task.worker or '(unknown)'} was silent for {lease_s:.0f} s.",
        remedy="Another attempt follows by itself; see the worker's host if it happens again.",
        retryable=True,
    )
    holder, key = holder_of(task), task.key
    data = AttemptFailed(
        run_id=key.run_id, stage=key.stage, phase=key.phase, index=key.idx, round=key.round, holder=holder, error=error
    )
    event_id = f"{holder.attempt_id}.{task.nonce}.lost"
    return make_event(data, source=f"conductor/{conductor}", subject=key.run_id, tenant=task.tenant, id=event_id)
