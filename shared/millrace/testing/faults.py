"""Fault points: the numbered places at which a database, a broker, a store or a process can fail, for tests.

The wrappers in `millrace.testing.faulty` pass these points; whoever makes them decides which passing is struck. A test of
one's own strikes one at a time:

    bus = FaultyBus(connect(url), Faults(at(FaultPoint.BUS_ANSWER_LOST, passing=2)))
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

LATE_S = 1.0
"""How late a delayed message or write is, outside of the simulation."""


class FaultPoint(Enum):
    """A place where something can fail. The number is stable: seeds and reports name it."""

    DATABASE_REFUSED = (1, "A transaction never begins: the caller sees Unavailable.")
    DATABASE_ROLLED_BACK = (2, "A transaction does its work and is rolled back: the caller sees Unavailable.")
    DATABASE_ANSWER_LOST = (3, "A transaction commits, and the caller sees Unavailable.")
    DATABASE_REPEATED = (4, "A transaction commits, its answer is lost, and the adapter runs the work again.")
    DATABASE_READ_FAILED = (5, "A read outside of transactions fails.")
    DATABASE_CRASH_BEFORE = (6, "The process dies before a transaction begins.")
    DATABASE_CRASH_INSIDE = (7, "The process dies before a transaction commits.")
    DATABASE_CRASH_AFTER = (8, "The process dies after a commit, before it does anything else.")

    BUS_REFUSED = (9, "Nothing of a batch reaches the broker: the caller sees Unavailable.")
    BUS_HALF_TAKEN = (10, "The first half of a batch reaches the broker: the caller sees Unavailable.")
    BUS_ANSWER_LOST = (11, "All of a batch reaches the broker, and the caller sees Unavailable.")
    BUS_DUPLICATED = (12, "Each message of a batch reaches the broker twice.")
    BUS_REORDERED = (13, "The messages of a batch reach the broker in the opposite order.")
    BUS_DELAYED = (14, "A batch is confirmed, and arrives late.")
    BUS_CRASH_BEFORE = (15, "The process dies before it publishes.")
    BUS_CRASH_AFTER = (16, "The process dies after it has published: a relay before it marks what it sent.")
    SIGNAL_LOST = (17, "A signal reaches nobody.")
    DELIVERY_REPEATED = (18, "A delivery is handled, its acknowledgement is lost, and it comes again.")
    DELIVERY_CRASH_BEFORE = (19, "The consumer dies when it has a delivery, before it handles it.")
    DELIVERY_CRASH_AFTER = (20, "The consumer dies when it has handled a delivery, before it acknowledges it.")

    STORE_PUT_FAILED = (21, "A blob is not stored.")
    STORE_PUT_ANSWER_LOST = (22, "A blob is stored, and the caller sees Unavailable.")
    STORE_GET_FAILED = (23, "A blob cannot be read just now.")
    STORE_REF_UNREAD = (24, "A ref cannot be read just now.")
    STORE_REF_FAILED = (25, "A ref is not written.")
    STORE_REF_ANSWER_LOST = (26, "A ref is written, and the caller sees Unavailable.")
    STORE_REF_LATE = (27, "A ref's write reaches the store when its caller has long seen Unavailable.")
    STORE_CRASH_BEFORE = (28, "The process dies before it writes to the store.")
    STORE_CRASH_AFTER = (29, "The process dies after it has written to the store, before it does anything else.")

    CONDUCTOR_KILLED = (30, "A conductor dies while it waits.")
    WORKER_KILLED = (31, "A worker dies, with its children.")
    CHILD_KILLED = (32, "An attempt's child dies, and its worker says so.")
    WORKER_DRAINED = (33, "A worker is asked to end: it hands back what it does not finish.")
    WORKER_SUSPENDED = (34, "A worker stands still for longer than a lease, then goes on as if nothing had been.")
    WORKER_UNHEARD = (35, "A worker's signals are lost for longer than a lease, and it works on.")
    BROKER_OUTAGE = (36, "The broker is away for a while; what it holds is durable.")
    DATABASE_OUTAGE = (37, "The database is away for a while.")
    STORE_OUTAGE = (38, "The store is away for a while.")
    COMMAND_LOST = (39, "Commands are confirmed, and the broker loses them with its disk.")
    CONDUCTOR_SUSPENDED = (40, "A conductor stands still for a while, then goes on as if nothing had been.")

    def __init__(self, number: int, caption: str) -> None:
        self.number = number
        self.caption = caption

    def __str__(self) -> str:
        return f"{self.number} {self.name.lower()}"


POINTS: tuple[FaultPoint, ...] = tuple(FaultPoint)
"""All of them, by number."""

Strikes = Callable[[FaultPoint], bool]
"""Asked at each passing of a point: whether it fails this time."""


def kill_self() -> NoReturn:
    """Die as SIGKILL makes a process die."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nothing outlives SIGKILL")


def later(work: Callable[[], object]) -> None:
    """Do it in a second, in a thread that keeps no process alive."""
    timer = threading.Timer(LATE_S, work)
    timer.daemon = True
    timer.start()


@dataclass(frozen=True, slots=True)
class Faults:
    """What decides about faults, and carries out those that are not an error to the caller.

    Attributes:
        strikes: Whether a point fails at this passing.
        die: Ends the process.
        later: Does something after a while.
    """

    strikes: Strikes
    die: Callable[[], NoReturn] = kill_self
    later: Callable[[Callable[[], object]], None] = later

    def crash_at(self, point: FaultPoint) -> None:
        if self.strikes(point):
            self.die()


def at(point: FaultPoint, *, passing: int = 1) -> Strikes:
    """Strike a point at one passing, the first being 1; thread-safe."""
    passed: Counter[FaultPoint] = Counter()
    lock = threading.Lock()

    def strikes(passed_now: FaultPoint) -> bool:
        with lock:
            passed[passed_now] += 1
            return passed_now is point and passed[point] == passing

    return strikes
