"""Leases: who was heard of when, on a monotonic clock, and whose silence has lasted too long.

Silence counts only while this conductor hears its own echo on the heartbeat path, from zero at start and after each
gap: a broker outage or a suspended laptop kills nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Leases:
    """Times of the latest heartbeats by what they name: a holder's nonce, an attempt. Thread-safe.

    All times are monotonic seconds of this process.

    Args:
        lease_s: Silence after which an attempt is lost.
        echo_gap_s: Silence of this conductor's own echo after which nothing counts.
    """

    def __init__(self, *, lease_s: float, echo_gap_s: float) -> None:
        self._lease_s = lease_s
        self._echo_gap_s = echo_gap_s
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._echo_at = float("-inf")

    def hear_echo(self, now: float) -> bool:
        """Note the echo; whether it is the first, or the first after a gap."""
        with self._lock:
            was_away = now - self._echo_at > self._echo_gap_s
            if was_away:
                self._heard.clear()
            self._echo_at = now
            return was_away

    def hear(self, names: Iterable[str], now: float) -> None:
        with self._lock:
            self._heard.update((name, now) for name in names)

    def lost(self, names: Iterable[str], now: float) -> list[str]:
        """Those of these names that were not heard of for longer than the lease; all others are forgotten."""
        wanted = set(names)
        with self._lock:
            self._heard = {name: at for name, at in self._heard.items() if name in wanted}
            if now - self._echo_at > self._echo_gap_s:
                return []
            return sorted(n for n in wanted if now - self._heard.setdefault(n, now) > self._lease_s)
