"""What a worker holds: one entry a delivery, whom to stop, and which deliveries are the same attempt again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.contracts.events import Holder
from millrace.runtime.announcer import Start
from millrace.runtime.attempt import Attempt, StopReason

MAX_REMEMBERED = 10_000
"""Orders to stop, for commands that arrive after them, and attempts that ended here, for those delivered once more."""

Key = tuple[str, int, str | None]
"""Attempt, fence and nonce; without a nonce, whoever holds it."""


@dataclass(slots=True, eq=False)
class Held:
    """A delivery that is being executed here.

    Attributes:
        asks: It was delivered before, and waits for `hold` or `stop`.
        may_work: It was told `hold`.
        attempt: Its child's supervision, once there is a child.
        stop: Why its child is to be killed, or was.
        asked: Why it was asked to hand its task back; empty: it was not.
        is_wanted: The conductor wants it back, and a grace runs.
        is_noted: It is recorded in the worker's directory.
        start: Its `attempt.started`, if that was not said at once.
        timers: What is to happen to it later.
        changed: Set when one of these was answered while it asks.
        ended: Set when it is over; `is_settled` then says whether its command is done with.
    """

    holder: Holder
    asks: bool = False
    may_work: bool = False
    attempt: Attempt | None = None
    stop: StopReason | None = None
    asked: str = ""
    is_wanted: bool = False
    is_noted: bool = False
    start: Start | None = None
    timers: list[threading.Timer] = field(default_factory=list)
    changed: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    is_settled: bool = False

    @property
    def key(self) -> Key:
        return (self.holder.attempt_id, self.holder.fence, self.holder.nonce)

    def end_start(self) -> None:
        """From now on there is no need to say that it started."""
        if self.start is not None:
            self.start.is_over = True

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something to it in a while, unless it has ended."""
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self.timers.append(timer)
        timer.start()

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()


class Holdings:
    """Deliveries by nonce. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._held: dict[str, Held] = {}
        self._by_attempt: dict[Key, Held] = {}
        self._stopped: OrderedDict[Key, None] = OrderedDict()
        self._settled: OrderedDict[Key, None] = OrderedDict()

    def begin(self, holder: Holder, *, redelivered: bool) -> Held | None:
        """The entry of a delivery; None if it is to be dropped: it was told to stop, or has ended here before.

        If the attempt runs here already, the entry is that one's, with another nonce: the broker lost the connection and
        delivered again what it could not know to be in work.
        """
        anyone = (holder.attempt_id, holder.fence, None)
        with self._lock:
            if anyone in self._stopped or anyone in self._settled:
                return None
            twin = self._by_attempt.get(anyone)
            if twin is not None:
                return twin
            held = self._held[holder.nonce] = self._by_attempt[anyone] = Held(holder, asks=redelivered)
            return held

    def end(self, held: Held, *, is_settled: bool) -> None:
        """Note that a delivery is over, and whether its command is done with."""
        anyone = (held.holder.attempt_id, held.holder.fence, None)
        with self._lock:
            if is_settled:
                _remember(self._settled, [anyone])
            held.is_settled = is_settled
            del self._held[held.holder.nonce], self._by_attempt[anyone]
            self._idle.notify_all()
        held.ended.set()

    def stop(self, orders: Sequence[Mapping[str, Any]]) -> list[Held]:
        """Remember orders to stop; return whom they mean here."""
        with self._lock:
            _remember(self._stopped, map(_key, orders))
            return [h for h in self._held.values() if h.key in self._stopped or (*h.key[:2], None) in self._stopped]

    def named(self, orders: Sequence[Mapping[str, Any]]) -> list[Held]:
        """Whom orders mean here."""
        wanted = set(map(_key, orders))
        with self._lock:
            return [h for h in self._held.values() if h.key in wanted or (*h.key[:2], None) in wanted]

    def all(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def attach(self, held: Held, attempt: Attempt) -> tuple[StopReason | None, str]:
        """Note a delivery's child; return what it was told before there was one."""
        with self._lock:
            held.attempt = attempt
            return held.stop, held.asked

    def mark(self, held: Held, *, stop: StopReason | None = None, asked: str = "") -> Attempt | None:
        """Note what a delivery is told, the first word counting; return its child, if there is one to tell."""
        with self._lock:
            held.stop = held.stop or stop
            held.asked = held.asked or asked
            attempt = held.attempt
        held.changed.set()
        return attempt

    def wait_idle(self, timeout_s: float) -> bool:
        with self._lock:
            return self._idle.wait_for(lambda: not self._held, timeout=timeout_s)


def _remember(memory: OrderedDict[Key, None], keys: Iterable[Key]) -> None:
    memory.update(dict.fromkeys(keys))
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)


def _key(order: Mapping[str, Any]) -> Key:
    return (str(order["attempt_id"]), int(order["fence"]), order.get("nonce") or None)
