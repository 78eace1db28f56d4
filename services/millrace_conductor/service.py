"""The conductor's process: subscribes, folds, dispatches, relays, and watches leases and timers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.events import Event
from millrace.contracts.ids import new_id
from millrace.ledger import lanes, pausing, queues, tasks
from millrace.ledger.admissions import admit_overlooked
from millrace.ledger.database import Transaction
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.ledger.workers import WorkerRow, agreed_code, forget_workers, live_workers, save_workers, slots_of
from millrace.settings import Settings, load_settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_conductor import gc
from millrace_conductor.computations import Knowledge, decide
from millrace_conductor.dispatch import dispatch
from millrace_conductor.effects import Stop, Yield
from millrace_conductor.folding import Folding, Outcome
from millrace_conductor.gc import collect_forever
from millrace_conductor.handlers import events_of, fold, holder_of, order_signals, refuse
from millrace_conductor.indices import ResultIndices
from millrace_conductor.relay import Relay
from millrace_conductor.settling import repair
from millrace_conductor.triggers import Triggers
from millrace_conductor.verifying import Verifier
from millrace_conductor.watch import Watch
from millrace_conductor.windows import Class, Paces

log = structlog.get_logger()

EVENTS = ("attempt.#", "endpoint.reported.#")
TICK_S = 1.0
MIN_PAUSE_S = 0.05
TAKE = 64
"""Accepted events or due timers in one transaction."""

FORGET_WORKERS_S = 3600.0
REPAIR_S = 5.0

Take = Callable[[Transaction, float, int], list[Event]]
"""Removes from the ledger what is to be folded: (transaction, now, at most how many)."""


def take_inbox(tx: Transaction, now: float, limit: int) -> list[Event]:  # noqa: ARG001 - a Take
    return queues.take_inbox(tx, limit=limit)


def take_timers(tx: Transaction, now: float, limit: int) -> list[Event]:
    return queues.take_due_timers(tx, now=now, limit=limit)


class Conductor:
    """One conductor. Any number may run: each transaction locks the runs it folds."""

    def __init__(self, settings: Settings, *, ledger: Ledger, bus: Bus, store_of: Callable[[str], Store]) -> None:
        self.id = new_id("con")
        self.settings = settings
        self.database = ledger.database
        self.bus = bus
        self.store_of = store_of
        self.watch = Watch(settings, ledger.database, bus)
        self.stop = threading.Event()
        self.work = threading.Event()
        self.relay = Relay(ledger.database, bus, store_of, owner=self.id)
        self._slots: dict[Class, int] = {}
        self._code: dict[tuple[str, str], str] = {}
        self._indices = ResultIndices(ledger.database, store_of, on_written=self._offer_all)
        self._verifier = Verifier(store_of)
        self._paces = Paces()
        self._repaired_at = 0.0
        self._tick_at = float("-inf")
        self._is_all_offered = True
        self._fault: Exception | None = None

    def run(self) -> None:
        """Work until `stop` is set.

        Raises:
            Unauthorized, Conflict and others: The broker cannot be used, and trying again cannot help.
        """
        self._declare()
        threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name)
            for name, work in (
                ("fold", self._subscribe), ("signals", self._listen), ("relay", self._relay), ("dead-letters", self._bury),
                ("indices", self._index), ("garbage", self._collect), ("triggers", self._fire),
            )
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        log.info("conductor_started", conductor=self.id)
        while not self.stop.is_set():
            pause_s = self._tick_safely()
            self.work.wait(pause_s)
            self.work.clear()
        self.relay.wake()
        self._indices.wake()
        for thread in threads:
            thread.join(timeout=10)
        log.info("conductor_stopped", conductor=self.id)
        if self._fault is not None:
            raise self._fault

    # --- the threads

    def _declare(self) -> None:
        """Make the event queue before the first command goes out: what nobody keeps is lost."""
        while not self.stop.is_set():
            try:
                self.bus.declare("conductor", EVENTS)
                return
            except errors.Unavailable as error:
                log.warning("conductor_waiting", reason=str(error))
                self.stop.wait(TICK_S)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's work; if it cannot go on, neither can the conductor."""
        try:
            work()
        except Exception as error:
            self._fault = error
            self.stop.set()
            self.work.set()

    def _subscribe(self) -> None:
        self.bus.subscribe("conductor", EVENTS, self.fold_events, stop=self.stop)

    def _listen(self) -> None:
        keys = ["worker.*.heartbeat", "inbox.changed", f"conductor.{self.id}.echo"]
        self.bus.listen(keys, self._on_signal, stop=self.stop)

    def _relay(self) -> None:
        self.relay.run(self.stop)

    def _index(self) -> None:
        self._indices.run(self.stop)

    def _bury(self) -> None:
        self.bus.subscribe_dead(lambda letters: self.fold_events(events_of(letters)), stop=self.stop)

    def _collect(self) -> None:
        collect_forever(self.database, self.store_of, self.settings, owner=self.id, stop=self.stop)

    def _fire(self) -> None:
        triggers = Triggers(self.settings, self.database, self.store_of, fired=self.work.set)
        while not self.stop.wait(TICK_S):
            try:
                triggers.look()
            except errors.MillraceError as error:
                log.warning("triggers_waiting", reason=str(error))
            except Exception:
                log.exception("triggers_failed")

    def _on_signal(self, key: str, payload: Mapping[str, Any]) -> None:
        if key.endswith(".echo"):
            if self.watch.hear_echo():
                self.bus.signal("control.all", {"announce": True})  # workers' words from before were not heard
        elif key == "inbox.changed":
            self.work.set()
        elif self.watch.hear_worker(payload):
            self._tick_at = float("-inf")
            self.work.set()

    # --- once in a while, and whenever woken

    def _tick_safely(self) -> float:
        """Do what is due; return how long to wait. Nothing that goes wrong here ends the conductor."""
        try:
            if time.monotonic() < self._tick_at:
                self._catch_up()
            else:
                self._tick_at = float("inf")  # until it is done; who hears a worker meanwhile asks for another
                self.tick()
                self._tick_at = min(self._tick_at, time.monotonic() + self._pause_s())
            return max(0.0, self._tick_at - time.monotonic())
        except errors.MillraceError as error:
            log.warning("conductor_waiting", reason=str(error))
        except Exception:
            log.exception("tick_failed")
        self._tick_at = time.monotonic() + TICK_S
        return TICK_S

    def _catch_up(self) -> None:
        """Do what cannot wait for the next tick: each run that is submitted rings."""
        self._fold_taken(take_inbox)
        self._verifier.verify_wanted()
        if not self._is_all_offered:
            self._is_all_offered = True
            self.transact(lambda _: None, classes=self._slots)

    def _offer_all(self) -> None:
        """Look at all classes again: something may start, though no fold touches its class."""
        self._is_all_offered = False
        self.work.set()

    def tick(self) -> None:
        """Look at everything once: what workers offer, what was accepted, what is due, who fell silent."""
        self.bus.signal(f"conductor.{self.id}.echo", {})
        self._note_workers()
        self._fold_taken(take_inbox)
        self._fold_taken(take_timers)
        self._verifier.verify_wanted()
        self._repair()
        self._is_all_offered = True
        self.transact(lambda _: None, classes=self._slots)
        self._order("yield", [Yield(holder_of(t), "paused") for t in pausing.running_while_paused(self.database)])
        lost, late = self.watch.look(self.id)
        if lost:
            self.fold_events(lost)
        if late:
            self.transact(lambda folding: self.watch.take_back(folding, late))
            log.warning("commands_dispatched_again", tasks=len(late))

    def _pause_s(self) -> float:
        now = time.time()
        due = tasks.next_ready_at(self.database, after=now)
        return TICK_S if due is None else min(TICK_S, max(MIN_PAUSE_S, due - now))

    def _repair(self) -> None:
        """Free who waits for a computation that nobody is at, or for a place that nobody holds; however it was lost."""
        if time.monotonic() - self._repaired_at >= REPAIR_S:
            self._repaired_at = time.monotonic()
            now = time.time()
            if repair(self.database, conductor=self.id, now=now) + admit_overlooked(self.database, now=now):
                self.work.set()

    def _note_workers(self) -> None:
        due = self.watch.roster.due(time.monotonic())
        now = time.time()
        if due:
            rows = [WorkerRow(w.worker_id, w.host, w.services, w.classes, now, w.code) for w in due]

            def note(tx: Transaction) -> None:
                save_workers(tx, rows)
                forget_workers(tx, seen_before=now - FORGET_WORKERS_S)

            self.database.transact(note)
            self.watch.roster.mark_noted(due, time.monotonic())
        live = live_workers(self.database, seen_after=now - self.settings.lease_s)
        self._slots, self._code = slots_of(live), agreed_code(live)

    # --- folding

    def fold_events(self, events: Sequence[Event]) -> None:
        """Fold a batch in one transaction, dispatch what it made possible, then speak of it."""
        self.transact(lambda folding: fold(folding, events))

    def _fold_taken(self, take: Take) -> None:
        """Fold what waits in the ledger, until nothing does.

        An event on which folding fails must not stop the others for ever: each is tried alone then, and refused if it
        fails alone.
        """
        while not self.stop.is_set() and self._waits(take):
            num_taken = 0

            def work(folding: Folding, limit: int = TAKE) -> None:
                nonlocal num_taken
                taken = take(folding.tx, folding.now, limit)
                num_taken = len(taken)
                fold(folding, taken)

            try:
                self.transact(work)
            except Exception as error:
                if _is_the_databases(error):
                    raise
                log.exception("fold_failed")
                self._fold_singly(take)
            if num_taken < TAKE:
                return

    def _fold_singly(self, take: Take) -> None:
        for _ in range(TAKE):
            try:
                self.transact(lambda folding: fold(folding, take(folding.tx, folding.now, 1)))
            except Exception as error:
                if _is_the_databases(error):
                    raise
                reason = f"{type(error).__name__}: {error}"
                self.transact(lambda f, reason=reason: refuse(f, take(f.tx, f.now, 1), reason))  # type: ignore[misc]  # bound at once

    def _waits(self, take: Take) -> bool:
        """Whether there is anything to take; an idle conductor writes nothing."""
        if take is take_inbox:
            return bool(self.database.read("SELECT 1 FROM inbox LIMIT 1"))
        return bool(self.database.read("SELECT 1 FROM timers WHERE due_at <= ? LIMIT 1", (time.time(),)))

    def transact(self, work: Callable[[Folding], None], *, classes: Iterable[Class] = ()) -> Outcome:
        """Fold in one transaction, dispatch in it what became possible, and say after the commit what must be said."""

        num_tries = 0

        def both(tx: Transaction) -> Outcome:
            nonlocal num_tries
            num_tries += 1
            folding = Folding(tx, conductor=self.id, now=time.time(), sent=sent)
            work(folding)
            known = Knowledge(self._code, self._indices.written, self._verifier)
            offered = {c for c in folding.touched | set(classes) if self._slots.get(c, 0) > 0}
            folding.write_tasks()
            asked = {c: lanes.find_lanes(tx, *c) for c in offered}  # with what follows in one trip; seldom in vain
            if decide(folding, offered, known):
                asked = {}
            dispatch(
                folding, offered | folding.touched, slots=self._slots, indices=self._indices.written,
                weights=self.settings.tenant_weights, known=known, paces=self._paces, asked=asked,
            )  # fmt: skip
            folding.write()
            return folding.outcome

        sent = self.relay.take_sent()
        try:
            outcome = self.database.transact(both)
        except BaseException:
            self.relay.give_back(sent)
            self.relay.doubt()  # it may be committed, and only its answer lost
            raise
        if num_tries > 1:
            self.relay.doubt()  # so may the first try, whose rows the last one did not make again
        self.relay.hand_over(outcome.rows)
        self._paces.note(outcome.took)
        if outcome.unindexed:
            self._indices.want(outcome.unindexed)
        if (outcome.unverified and self._verifier.want(outcome.unverified)) or outcome.has_more:
            self._offer_all()
        if outcome.num_admitted:
            self.work.set()
        self._order("stop", outcome.stops)
        self._order("yield", outcome.yields)
        for run_id, status in outcome.changed.items():
            self.bus.signal(f"run.{run_id}.changed", {"run_id": run_id, "status": status})
        return outcome

    def _order(self, order: Literal["stop", "yield"], to: Sequence[Stop] | Sequence[Yield]) -> None:
        for key, holders in order_signals(to).items():
            self.bus.signal(key, {order: holders})


def _is_the_databases(error: Exception) -> bool:
    """Whether the database is at fault rather than an event: invalid input, and what nobody foresaw, is an event's."""
    return isinstance(error, errors.MillraceError) and not isinstance(error, errors.InvalidInput)


def main(argv: Sequence[str]) -> int:
    """Run a conductor until SIGTERM; or with `gc OPTIONS` collect garbage once."""
    from millrace.runtime.signals import on_stop_signal

    if argv[:1] == ["gc"]:
        return gc.main(argv[1:])

    settings = load_settings(Settings)

    @lru_cache(maxsize=64)
    def store_of(tenant: str) -> Store:
        return open_store(settings, tenant=tenant)

    ledger, bus = open_ledger(settings.database), connect(settings.broker)
    conductor = Conductor(settings, ledger=ledger, bus=bus, store_of=store_of)
    try:
        with on_stop_signal(conductor.stop, conductor.work):
            conductor.run()
    finally:
        bus.close()
        ledger.close()
    return 0
