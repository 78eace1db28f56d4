"""Warm children that wait for their next attempt. They have executed one already, and were found clean (see `cleanliness`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

from millrace.runtime.launched import Launched


class WarmPool:
    """Idle children by what they may be used for, the last used first. Safe under many threads."""

    def __init__(self, *, warm_s: float, max_idle: int) -> None:
        """Children leave after `warm_s` of idleness; of more than `max_idle` the longest idle leaves at once."""
        self._warm_s = warm_s
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: list[tuple[Hashable, Launched]] = []

    def put(self, key: Hashable, launched: Launched) -> None:
        """Keep a child whose attempt has ended."""
        launched.num_attempts += 1
        launched.used_at = time.monotonic()
        with self._lock:
            self._idle.append((key, launched))
            leaving = self._idle.pop(0)[1] if len(self._idle) > self._max_idle else None
        if leaving is not None:
            leaving.close()

    def take(self, key: Hashable) -> Launched | None:
        """A living child for this key, if one waits. One that has died meanwhile is passed over."""
        while True:
            with self._lock:
                places = [place for place, (theirs, _) in enumerate(self._idle) if theirs == key]
                if not places:
                    return None
                _, launched = self._idle.pop(places[-1])
            if launched.is_quiet:
                return launched
            launched.close()

    def let_idle_go(self) -> None:
        """Dismiss who has waited for `warm_s`, or has died."""
        now = time.monotonic()
        with self._lock:
            kept = [
                (key, launched) for key, launched in self._idle
                if now - launched.used_at < self._warm_s and launched.is_quiet
            ]  # fmt: skip
            staying = {id(launched) for _, launched in kept}
            leaving = [launched for _, launched in self._idle if id(launched) not in staying]
            self._idle = kept
        for launched in leaving:
            launched.close()

    def close(self) -> None:
        """Dismiss all."""
        with self._lock:
            leaving, self._idle = self._idle, []
        for _, launched in leaving:
            launched.close()

    def __len__(self) -> int:
        with self._lock:
            return len(self._idle)
