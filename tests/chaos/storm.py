"""A storm: runs keep coming while processes are killed and servers restarted; then calm, in which every run must end well."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from chaos import victims
from chaos.hosts import Target
from chaos.submitting import Users

CALM_S = 150.0
"""How long after the last blow all runs may take to end."""

MISCHIEF = {"kill": 16, "nap": 2, "term": 1}
NAP_S = (0.2, 4.0)
"""A process that is stopped for half a lease is not dead, and nobody may take it for dead."""

TERMINATED = ("worker", "conductor", "gateway", "serve")
MIN_PAUSE_S, MAX_PAUSE_S = 0.1, 1.2
SHARE = 0.45
"""Of the limit, in which all blows are to fall: a busy machine deals them more slowly, and is hit the faster for it."""

MIN_UP_S = 5.0
"""RabbitMQ 3.10 forgets a quorum queue that is killed just after its birth."""

MAX_DOWN_S = 10.0


class Storm:
    """What is hit, and what has been.

    Attributes:
        kills: Processes killed one by one, by kind.
        restarts: Of servers, by name.
        hits: What else befell processes: `nap`, `term`, and `host`, all of one at once.
        users: Who submits meanwhile.
    """

    def __init__(
        self, target: Target, *, seed: int, data: Path | None, servers: Mapping[str, Callable[[], None]] | None = None
    ) -> None:
        """`servers` are functions that stop one and start it again."""
        self.seed = seed
        self.kills: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.users = Users(target.urls, seed=seed, data=data)
        self._target = target
        self._servers = servers or {}
        self._asleep: list[tuple[float, int]] = []

    def rage(self, *, num_kills: int, restarts_each: int, num_power_losses: int, limit_s: float) -> None:
        """Submit and strike until there were so many kills, restarts of each server and losses of a host, or time is up."""
        deadline, done_at = time.monotonic() + limit_s, time.monotonic() + SHARE * limit_s
        rng = random.Random(self.seed + 2)
        servers = [name for name in self._servers for _ in range(restarts_each)]
        rng.shuffle(servers)
        restarts = _waits_s(rng, len(servers), limit_s)
        losses = _waits_s(rng, num_power_losses, limit_s)
        with self._meanwhile(
            lambda: self._restart(servers, restarts, deadline), lambda: self._lose_power(losses, deadline)
        ) as others:
            rng = random.Random(self.seed)
            while not self.users.runs and time.monotonic() < deadline:
                time.sleep(0.1)
            while time.monotonic() < deadline and (self.kills.total() < num_kills or not all(o.done() for o in others)):
                pause_s = (done_at - time.monotonic()) / max(1, num_kills - self.kills.total())
                time.sleep(rng.expovariate(1 / min(MAX_PAUSE_S, max(MIN_PAUSE_S, pause_s))))
                self._wake(until=time.monotonic())
                if self.kills.total() < num_kills:
                    self._strike(rng)
            self._wake(until=float("inf"))

    @contextmanager
    def _meanwhile(self, *others: Callable[[], None]) -> Iterator[list[Future[None]]]:
        """Users at work until the block ends, and others who end by themselves; what is given are the latter."""
        calm = threading.Event()
        with ThreadPoolExecutor() as pool:
            working = [pool.submit(self.users.submit_until, calm), pool.submit(self.users.wish_until, calm)]
            ending = [pool.submit(other) for other in others]
            try:
                yield ending
            finally:
                calm.set()
        for future in (*working, *ending):
            future.result()

    def _strike(self, rng: random.Random) -> None:
        match rng.choices(list(MISCHIEF), list(MISCHIEF.values()))[0]:
            case "kill":
                found = victims.await_one(self._target.roots, rng)
                if found is not None and victims.send(found[1], signal.SIGKILL):
                    self.kills[found[0]] += 1
            case "nap":
                found = victims.draw(self._target.roots, rng)
                if found is not None and victims.send(found[1], signal.SIGSTOP):
                    self._asleep.append((time.monotonic() + rng.uniform(*NAP_S), found[1]))
                    self.hits["nap"] += 1
            case "term":
                found = victims.draw(self._target.roots, rng, among=TERMINATED)
                if found is not None and victims.send(found[1], signal.SIGTERM):
                    self.hits["term"] += 1

    def _wake(self, *, until: float) -> None:
        for due_at, pid in self._asleep:
            if due_at <= until:
                victims.send(pid, signal.SIGCONT)
        self._asleep = [(due_at, pid) for due_at, pid in self._asleep if due_at > until]

    def _restart(self, servers: Sequence[str], waits_s: Sequence[float], deadline: float) -> None:
        for name, wait_s in zip(servers, waits_s, strict=True):
            time.sleep(wait_s)
            if time.monotonic() > deadline:
                return
            self._servers[name]()
            self.restarts[name] += 1

    def _lose_power(self, waits_s: Sequence[float], deadline: float) -> None:
        rng = random.Random(self.seed + 4)
        for wait_s in waits_s:
            time.sleep(wait_s)
            if time.monotonic() > deadline:
                return
            self._target.second.lose_power()
            self.hits["host"] += 1
            time.sleep(rng.uniform(0, MAX_DOWN_S))
            self._target.second.start()


def _waits_s(rng: random.Random, count: int, limit_s: float) -> list[float]:
    """How long to wait before each of so many blows, if they are to fall in SHARE of the limit at the latest."""
    longest = max(2 * MIN_UP_S, SHARE * limit_s / max(1, count) - MIN_UP_S)
    return [rng.uniform(MIN_UP_S, longest) for _ in range(count)]
