"""The conductor's process: subscribes, folds, dispatches, relays, and watches leases and timers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.events import AttemptFailed, ErrorInfo, Event, make_event
from millrace.contracts.ids import new_id
from millrace.ledger import journal
from millrace.ledger.database import Transaction
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.ledger.state import TaskState
from millrace.settings import Settings, load_settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_conductor.dispatch import dispatch
from millrace_conductor.handlers import Outcome, events_of, fold, fold_inbox, fold_timers, holder_of, stop_signals
from millrace_conductor.leases import Leases
from millrace_conductor.machine import Stop
from millrace_conductor.relay import run_relay

log = structlog.get_logger()

EVENTS = ("attempt.#", "endpoint.reported.#")
TICK_S = 1.0
START_DEADLINE_S = 60.0
WORKER_NOTE_S = 10.0
"""How often a worker's unchanged announcement is written again: a third of the lease."""


class Conductor:
    """One conductor. Any number may run: each transaction locks the runs it folds."""

    def __init__(self, settings: Settings, *, ledger: Ledger, bus: Bus, store_of: Callable[[str], Store]) -> None:
        self.id = new_id("con")
        self.settings = settings
        self.database = ledger.database
        self.bus = bus
        self.store_of = store_of
        self.leases = Leases(lease_s=settings.lease_s, echo_gap_s=3 * settings.heartbeat_s)
        self.stop = threading.Event()
        self.work = threading.Event()
        self.relay_wake = threading.Event()
        self._workers: dict[str, tuple[float, dict[str, Any]]] = {}

    def run(self) -> None:
        """Work until `stop` is set."""
        threads = [
            threading.Thread(target=self._subscribe, name="fold"),
            threading.Thread(target=self._listen, name="signals"),
            threading.Thread(target=self._relay, name="relay"),
            threading.Thread(target=self._bury, name="dead-letters"),
        ]
        for thread in threads:
            thread.start()
        log.info("conductor_started", conductor=self.id)
        while not self.stop.is_set():
            try:
                self._tick()
            except errors.Unavailable as error:
                log.warning("conductor_waiting", reason=str(error))
            self.work.wait(self._pause_s())
            self.work.clear()
        self.relay_wake.set()
        for thread in threads:
            thread.join(timeout=10)
        log.info("conductor_stopped", conductor=self.id)

    # --- the threads

    def _subscribe(self) -> None:
        self.bus.subscribe("conductor", EVENTS, self.fold_events, stop=self.stop)

    def _listen(self) -> None:
        keys = ["worker.*.heartbeat", "inbox.changed", f"conductor.{self.id}.echo"]
        self.bus.listen(keys, self._on_signal, stop=self.stop)

    def _relay(self) -> None:
        run_relay(self.database, self.bus, self.store_of, owner=self.id, wake=self.relay_wake, stop=self.stop)

    def _bury(self) -> None:
        self.bus.subscribe_dead(lambda letters: self.fold_events(events_of(letters)), stop=self.stop)

    def _tick(self) -> None:
        self.bus.signal(f"conductor.{self.id}.echo", {})
        self._transact(lambda tx, now: fold_inbox(tx, conductor=self.id, now=now))
        self._transact(lambda tx, now: fold_timers(tx, conductor=self.id, now=now))
        self._watch_attempts()

    def _pause_s(self) -> float:
        due = journal.next_ready_at(self.database)
        return TICK_S if due is None else min(TICK_S, max(0.05, due - time.time()))

    # --- folding

    def fold_events(self, events: Sequence[Event]) -> None:
        """Fold a batch in one transaction, dispatch what it made possible, then speak of it."""
        self._transact(lambda tx, now: fold(tx, events, conductor=self.id, now=now))

    def _transact(self, work: Callable[[Transaction, float], Outcome]) -> None:
        def both(tx: Transaction) -> Outcome:
            now = time.time()
            outcome = work(tx, now)
            dispatch(tx, self.store_of, conductor=self.id, now=now, lease_s=self.settings.lease_s)
            return outcome

        outcome = self.database.transact(both)
        self.relay_wake.set()
        self._stop_attempts(outcome.stops)
        for run_id in outcome.changed:
            self.bus.signal(f"run.{run_id}.changed", {"run_id": run_id})

    def _stop_attempts(self, stops: Sequence[Stop]) -> None:
        for key, holders in stop_signals(stops).items():
            self.bus.signal(key, {"stop": holders})

    # --- heartbeats and leases

    def _on_signal(self, key: str, payload: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if key.endswith(".echo"):
            self.leases.hear_echo(now)
        elif key == "inbox.changed":
            self.work.set()
        else:
            self._on_heartbeat(payload, now)

    def _on_heartbeat(self, beat: Mapping[str, Any], now: float) -> None:
        worker_id = str(beat["worker_id"])
        noted_at, before = self._workers.get(worker_id, (float("-inf"), {}))
        services, classes = list(beat["services"]), dict(beat["classes"])
        offer: dict[str, Any] = {"services": services, "classes": classes}
        self.leases.hear((h["nonce"] for h in beat["holders"]), now)
        changed = offer != {k: before.get(k) for k in offer}
        if changed or now - noted_at > WORKER_NOTE_S:
            self._workers[worker_id] = (now, {**offer, "busy": dict(beat["busy"])})
            host = str(beat.get("host", ""))

            def note(tx: Transaction) -> None:
                journal.save_worker(tx, worker_id, host=host, services=services, classes=classes, now=time.time())

            self.database.transact(note)
        else:
            self._workers[worker_id] = (noted_at, {**offer, "busy": dict(beat["busy"])})
        if changed:
            self.work.set()
        self._stop_strangers(beat)

    def _stop_strangers(self, beat: Mapping[str, Any]) -> None:
        """Answer every holder that is not the bound one with `stop`, every time it beats."""
        if not beat["holders"]:
            return
        bound = {t.nonce: t for t in journal.all_open_tasks(self.database) if t.nonce}
        unbound = {holder_of(t).attempt_id for t in journal.all_open_tasks(self.database) if not t.nonce}
        strangers = [h for h in beat["holders"] if h["nonce"] not in bound and h["attempt_id"] not in unbound]
        if strangers:
            stops = [
                {**{k: h[k] for k in ("attempt_id", "fence", "nonce")}, "reason": "not the holder"} for h in strangers
            ]
            self.bus.signal(f"control.worker.{beat['worker_id']}", {"stop": stops})

    def _watch_attempts(self) -> None:
        tasks = journal.all_open_tasks(self.database)
        running = {t.nonce: t for t in tasks if t.status == "running"}
        lost = self.leases.lost(running, time.monotonic())
        if lost:
            self.fold_events([_lost_event(running[nonce], self.id, self.settings.lease_s) for nonce in lost])
        self._dispatch_again([t for t in tasks if t.status == "dispatched"])

    def _dispatch_again(self, tasks: Sequence[TaskState]) -> None:
        """Commands that nobody started while slots of their class were free go out again under a new fence."""
        late = [
            t
            for t in tasks
            if t.dispatched_at and time.time() - t.dispatched_at > START_DEADLINE_S and self._has_idle_slot(t)
        ]
        if not late:
            return

        def work(tx: Transaction, now: float) -> Outcome:
            for task in late:
                tx.run(
                    "UPDATE tasks SET status = 'pending', ready_at = ? WHERE run_id = ? AND stage = ? AND round = ?"
                    " AND phase = ? AND idx = ? AND status = 'dispatched' AND fence = ?",
                    (now, *task.key, task.fence),
                )
            return Outcome()

        self._transact(work)
        log.warning("commands_dispatched_again", tasks=len(late))

    def _has_idle_slot(self, task: TaskState) -> bool:
        fresh = time.monotonic() - self.settings.lease_s
        return any(
            heard > fresh
            and task.service in w["services"]
            and w["classes"].get(task.resource_class, 0) > w["busy"].get(task.resource_class, 0)
            for heard, w in self._workers.values()
        )


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


def main(argv: Sequence[str]) -> int:  # noqa: ARG001 - every service has this signature
    """Run a conductor until SIGTERM."""
    from millrace.runtime.signals import on_stop_signal

    settings = load_settings(Settings)

    @lru_cache(maxsize=64)
    def store_of(tenant: str) -> Store:
        return open_store(settings, tenant=tenant)

    conductor = Conductor(
        settings, ledger=open_ledger(settings.database), bus=connect(settings.broker), store_of=store_of
    )
    with on_stop_signal(conductor.stop, conductor.work):
        conductor.run()
    conductor.bus.close()
    return 0
