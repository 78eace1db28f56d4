"""The seam to the conductor, which the library finds as `millrace up` does: by its entry point, never by an import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from millrace import errors
from millrace.bus import Bus
from millrace.ledger.database import Database
from millrace.settings import Settings
from millrace.testing.referenced import StoreOf
from millrace.testing.simulation.process import Process, Steps

OPEN_AGAIN_S = 1.0
SWITCH_S = 0.0002
"""How long it takes until a thread that was woken runs."""


class Conducting(Protocol):
    """A conductor in parts. `tick` and `relay` return how long to wait until the next one."""

    def open(self) -> None: ...

    def tick(self) -> float: ...

    def relay(self) -> float: ...


@cache
def _conductor_class() -> Any:
    (point,) = entry_points(group="millrace.services", name="conductor")
    package = point.module.partition(".")[0]
    return importlib.import_module(f"{package}.stepwise").StepwiseConductor


class SimulatedConductor:
    """One conductor process: its threads are steps in virtual time."""

    def __init__(
        self, process: Process, settings: Settings, *, database: Database, bus: Bus, store_of: StoreOf
    ) -> None:
        self.process = process
        self._conductor: Conducting = _conductor_class()(
            settings, database=database, bus=bus, store_of=store_of,
            on_work=self._waking(self._ticks), on_outbox=self._waking(self._relays),
        )  # fmt: skip
        self._pending: set[str] = set()
        self._is_open = False
        process.spawn(self._open())

    def _open(self) -> Steps:
        while not self._is_open:
            try:
                self._conductor.open()
                self._is_open = True
            except errors.Unavailable:
                yield OPEN_AGAIN_S
        self._ticking = self.process.spawn(self._ticks())
        self._relaying = self.process.spawn(self._relays())

    def _ticks(self) -> Steps:
        while True:
            yield self._conductor.tick()

    def _relays(self) -> Steps:
        failures = 0
        while True:
            try:
                pause_s = self._conductor.relay()
                failures = 0
            except errors.MillraceError:
                failures += 1
                pause_s = min(0.5 * 2**failures, 10.0)
            yield pause_s

    def _waking(self, loop: Callable[[], Steps]) -> Callable[[], None]:
        """Wake one of the loops, once however often it is asked for before it runs."""
        name = loop.__name__

        def wake() -> None:
            if self._is_open and name not in self._pending:
                self._pending.add(name)
                self.process.after(SWITCH_S, run)

        def run() -> None:
            self._pending.discard(name)
            (self._ticking if name == "_ticks" else self._relaying).wake()

        return wake
