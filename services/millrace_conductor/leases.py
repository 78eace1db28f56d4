"""Leases: who was heard of when, on a monotonic clock, and whose silence has lasted too long.

Silence counts only while this conductor hears its own echo on the heartbeat path, from zero at start and after each
gap: a broker outage or a suspended laptop kills nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Leases:
    """Times of the latest heartbeats by holder nonce. All times are monotonic seconds of this process."""

    lease_s: float
    echo_gap_s: float
    heard: dict[str, float] = field(default_factory=dict)
    echo_at: float = float("-inf")

    def hear_echo(self, now: float) -> None:
        if now - self.echo_at > self.echo_gap_s:
            self.heard.clear()
        self.echo_at = now

    def hear(self, nonces: Iterable[str], now: float) -> None:
        for nonce in nonces:
            self.heard[nonce] = now

    def lost(self, open_nonces: Iterable[str], now: float) -> list[str]:
        """Nonces of open attempts that were silent for longer than the lease; forgets those that are no longer open."""
        wanted = set(open_nonces)
        self.heard = {nonce: at for nonce, at in self.heard.items() if nonce in wanted}
        if now - self.echo_at > self.echo_gap_s:
            return []
        return sorted(nonce for nonce in wanted if now - self.heard.setdefault(nonce, now) > self.lease_s)
