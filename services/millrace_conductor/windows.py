"""How many commands of a resource class are out at a time, as a function of how long its recent attempts took.

A command that waits at a busy slot hides the way from one result to the next command, some tens of milliseconds. Attempts
of a millisecond need many of them, or slots idle on that way. Long ones need next to none, and each that waits holds up
another tenant's task by its whole length.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from millrace.ledger.state import RunState, TaskKey

Class = tuple[str, str]
"""A service and a resource class: what names a command queue."""

Series = tuple[str, str, str, str]
"""Tenant, pipeline, stage and phase: its tasks do the same to like data, in this run as in those before."""

IN_FLIGHT_PER_SLOT = 2
"""One task working and one waiting beside it, while it is not known how long they take."""

MAX_PER_SLOT = 16
"""The broker never holds a flood: a command there can be given to nobody else, and is worked off before all that come later."""

COVER_S = 0.05
"""Work that should wait at each slot: from a result over a busy broker and a commit to the next command."""

LONG_S = 1.0
"""Attempts count as at most this long: beyond it the window is the smallest anyway, and is to grow again soon."""

FORGET = 0.1
"""The share that the newest attempt has in the average."""

MAX_SERIES = 1000


def places(slots: int, mean_s: float | None) -> int:
    """How many commands may be out, working and waiting, where attempts take so long; None: nobody knows yet.

    Returns:
        From one more than there are slots, to MAX_PER_SLOT for each.
    """
    if slots <= 0:
        return 0
    if mean_s is None:
        return slots * IN_FLIGHT_PER_SLOT
    waiting = slots * COVER_S / max(mean_s, COVER_S / MAX_PER_SLOT)
    return min(slots + math.ceil(waiting), slots * MAX_PER_SLOT)


@dataclass(frozen=True, slots=True)
class Took:
    """An attempt that succeeded, and how long it worked."""

    place: Class
    series: Series
    seconds: float


class Paces:
    """Running averages of how long attempts take: by class, and by series, since what comes next in a class may be others'.

    Harmless if lost, or if each conductor has its own. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_class: dict[Class, float] = {}
        self._by_series: OrderedDict[Series, float] = OrderedDict()

    def note(self, attempts: Iterable[Took]) -> None:
        """Take attempts into the averages."""
        with self._lock:
            for took in attempts:
                seconds = min(took.seconds, LONG_S)
                self._by_class[took.place] = _mixed(self._by_class.get(took.place), seconds)
                self._by_series[took.series] = _mixed(self._by_series.get(took.series), seconds)
                self._by_series.move_to_end(took.series)
            while len(self._by_series) > MAX_SERIES:
                self._by_series.popitem(last=False)

    def most(self, place: Class, slots: int) -> int:
        """How many commands of a class may be out, if all that come next are like its recent ones."""
        with self._lock:
            return places(slots, self._by_class.get(place))

    def least(self, series: Iterable[Series], slots: int) -> int:
        """How many commands may be out where tasks of these are among them: as few as the longest of them allows."""
        with self._lock:
            return min((places(slots, self._by_series.get(each)) for each in set(series)), default=slots * MAX_PER_SLOT)


def series_of(run: RunState, key: TaskKey) -> Series:
    return run.tenant, run.graph.pipeline, key.stage, key.phase


def _mixed(before: float | None, seconds: float) -> float:
    return seconds if before is None else before + FORGET * (seconds - before)
