"""A simulated process: it acts when the clock says so, stands still while suspended, and may die within any call."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NoReturn

from millrace.testing.simulation.clock import Clock

Steps = Generator[float, None, None]
"""What a thread of a process does: it yields how many seconds it waits, and may be woken earlier."""


class ProcessDied(BaseException):
    """SIGKILL, in the midst of a call. Not an Exception: nothing in the process may catch it."""


def die() -> NoReturn:
    raise ProcessDied


class Process:
    """Work that is bound to a life: once dead, nothing of it happens any more."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.clock = clock
        self.name = name
        self.is_alive = True
        self.on_death: list[Callable[[], None]] = []
        self._suspended_until = 0.0

    def after(self, delay_s: float, work: Callable[[], object]) -> None:
        self.clock.after(delay_s, lambda: self.call(work))

    def call(self, work: Callable[[], object]) -> None:
        """Do something as this process: not at all if it is dead, later if it stands still."""
        if not self.is_alive:
            return
        if self.clock.now < self._suspended_until:
            self.clock.after(self._suspended_until - self.clock.now, lambda: self.call(work))
            return
        try:
            work()
        except ProcessDied:
            self.kill()

    def spawn(self, steps: Steps) -> Thread:
        thread = Thread(self, steps)
        thread.wake()
        return thread

    def suspend(self, seconds: float) -> None:
        self._suspended_until = self.clock.now + seconds

    def kill(self) -> None:
        """End it, as SIGKILL does. What others hold of it, such as unacknowledged messages, they take back."""
        if self.is_alive:
            self.is_alive = False
            for work in self.on_death:
                work()


class Thread:
    """Steps under way. Waking it ends its present wait."""

    def __init__(self, process: Process, steps: Steps) -> None:
        self._process = process
        self._steps = steps
        self._turn = 0
        self.has_ended = False

    def wake(self) -> None:
        """Let it go on, in a call of its own: whoever wakes it may be in the midst of something, or another process."""
        turn = self._turn
        self._process.after(0.0, lambda: self._go_on(turn))

    def _go_on(self, turn: int) -> None:
        if turn != self._turn or self.has_ended:  # it was woken before this wait was over
            return
        self._turn += 1
        try:
            delay_s = next(self._steps)
        except StopIteration:
            self.has_ended = True
            return
        now = self._turn
        self._process.after(delay_s, lambda: self._go_on(now))
