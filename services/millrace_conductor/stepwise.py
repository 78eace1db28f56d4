"""A conductor without threads: a simulation calls each of its parts when virtual time says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

from millrace.bus import Bus
from millrace.ledger.database import Database
from millrace.ledger.ledger import Ledger
from millrace.settings import Settings
from millrace_conductor.relay import StoreOf
from millrace_conductor.service import EVENTS, Conductor


class _Bell(threading.Event):
    """An event that tells somebody at once when it is set."""

    def __init__(self, on_set: Callable[[], None]) -> None:
        super().__init__()
        self._on_set = on_set

    def set(self) -> None:
        super().set()
        self._on_set()


class StepwiseConductor:
    """The parts of one conductor. The bus's `subscribe` and `listen` return at once, and call back when they hear.

    Args:
        on_work: Called when a tick is due before its time.
        on_outbox: Called when there is something to relay.
    """

    def __init__(
        self, settings: Settings, *, database: Database, bus: Bus, store_of: StoreOf, on_work: Callable[[], None],
        on_outbox: Callable[[], None],
    ) -> None:  # fmt: skip
        self._conductor = Conductor(settings, ledger=Ledger(database), bus=bus, store_of=store_of)
        self._conductor.work = _Bell(on_work)
        self._conductor._verifier.num_threads = 1
        self._conductor.relay._woken = _Bell(on_outbox)
        self._conductor._indices._woken = _Bell(on_work)

    def open(self) -> None:
        """Declare the event queue, then hear events, signals and dead letters. Raises Unavailable: open it again."""
        conductor = self._conductor
        conductor.bus.declare("conductor", EVENTS)
        conductor._subscribe()
        conductor._listen()
        conductor._bury()

    def tick(self) -> float:
        """Do what is due; return how long to wait, unless told before."""
        self._conductor._indices.write_wanted()
        return self._conductor._tick_safely()

    def relay(self) -> float:
        """Send a batch; return how long to wait, unless told before. Raises what keeps it from sending."""
        return self._conductor.relay.step()
