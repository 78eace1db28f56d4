"""Virtual time: a queue of what happens when, and a stand-in for this thread's clocks and randomness."""

from __future__ import annotations

import heapq
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from millrace.contracts import ids

EPOCH = 1_700_000_000.0
"""Where virtual time begins, in seconds since 1970."""


class Clock:
    """What happens when. Equal seeds give equal histories: ties are broken by the order of asking."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def after(self, delay_s: float, work: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (self.now + delay_s, next(self._numbers), work))

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, work = heapq.heappop(self._queue)
        work()


@contextmanager
def virtual_time(clock: Clock, seed: int) -> Iterator[None]:
    """Let this thread's `time` and `os.urandom` follow the clock and the seed; other threads keep the real ones."""
    thread, source = threading.get_ident(), random.Random(seed)
    real: dict[str, Any] = {name: getattr(time, name) for name in ("time", "monotonic")}
    real_entropy, state, last_id = os.urandom, random.getstate(), ids._last

    def read(name: str) -> Callable[[], float]:
        return lambda: clock.now if threading.get_ident() == thread else real[name]()

    def entropy(size: int) -> bytes:
        return source.randbytes(size) if threading.get_ident() == thread else real_entropy(size)

    def pause(seconds: object) -> None:
        raise AssertionError(f"a simulated process slept {seconds} s: nothing else can happen meanwhile")

    real_sleep = time.sleep
    try:
        time.time, time.monotonic, os.urandom, ids._last = read("time"), read("monotonic"), entropy, 0
        time.sleep = lambda s: pause(s) if threading.get_ident() == thread else real_sleep(s)
        random.seed(seed)
        yield
    finally:
        time.time, time.monotonic, time.sleep, os.urandom = real["time"], real["monotonic"], real_sleep, real_entropy
        ids._last = last_id
        random.setstate(state)
