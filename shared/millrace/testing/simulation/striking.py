"""Which passing of which fault point fails, by seed: one point often, all others now and then, none after a while."""

from __future__ import annotations

from random import Random

from millrace.testing.faults import FaultPoint
from millrace.testing.simulation.clock import Clock

OFTEN, SELDOM = 0.15, 0.002
OFTEN_WHOLE, SELDOM_WHOLE = 0.05, 0.002
"""The same for what befalls whole processes and servers, asked for each of them once a second."""

MOST_STRIKES = 30
"""Of one world: more would make a task's losses the ordinary case."""

_WHOLE = frozenset(
    p for p in FaultPoint if FaultPoint.CONDUCTOR_KILLED.number <= p.number <= FaultPoint.STORE_OUTAGE.number
) - {FaultPoint.CHILD_KILLED} | {FaultPoint.CONDUCTOR_SUSPENDED}

_AWAY = {
    FaultPoint.DATABASE_OUTAGE: (FaultPoint.DATABASE_REFUSED, FaultPoint.DATABASE_READ_FAILED),
    FaultPoint.STORE_OUTAGE: (
        FaultPoint.STORE_PUT_FAILED, FaultPoint.STORE_GET_FAILED, FaultPoint.STORE_REF_UNREAD, FaultPoint.STORE_REF_FAILED
    ),
}  # fmt: skip
"""What fails at every passing while a server is away."""


class Striking:
    """Says of each passing whether it fails. Counts what it struck.

    Args:
        focus: The point that is struck often; None: none is.
        until: When the last fault may happen.
    """

    def __init__(self, random: Random, clock: Clock, *, focus: FaultPoint | None, until: float) -> None:
        self.num_struck = 0
        self.struck: dict[FaultPoint, int] = {}
        self._random, self._clock, self._focus, self._until = random, clock, focus, until
        self._away_until: dict[FaultPoint, float] = {}

    def __call__(self, point: FaultPoint) -> bool:
        now = self._clock.now
        if self._away_until.get(point, 0.0) > now:
            return True
        if now >= self._until or self.num_struck >= MOST_STRIKES:
            return False
        often, seldom = (OFTEN_WHOLE, SELDOM_WHOLE) if point in _WHOLE else (OFTEN, SELDOM)
        if self._random.random() >= (often if point is self._focus else seldom):
            return False
        self.num_struck += 1
        self.struck[point] = self.struck.get(point, 0) + 1
        return True

    def begin_outage(self, point: FaultPoint, *, until: float) -> None:
        """Let every use of a server fail until then."""
        self._away_until |= dict.fromkeys(_AWAY[point], until)
