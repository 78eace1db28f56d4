"""A storm: runs keep coming while processes are killed and servers restarted; then calm, in which every run must end well."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
MAX_PAUSE_S = 1.2
NUM_POWER_LOSSES = 2


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

    def rage(self, *, num_kills: int, restarts_each: int, limit_s: float) -> None:
        """Submit and strike until there were so many kills and restarts, or time is up."""
        deadline, pause_s = time.monotonic() + limit_s, min(MAX_PAUSE_S, 0.7 * limit_s / num_kills)
        with self._meanwhile(restarts_each=restarts_each, deadline=deadline) as others:
            rng = random.Random(self.seed)
            while not self.users.runs and time.monotonic() < deadline:
                time.sleep(0.1)
            while time.monotonic() < deadline and (self.kills.total() < num_kills or not all(o.done() for o in others)):
                time.sleep(rng.expovariate(1 / pause_s))
                self._wake(until=time.monotonic())
                if self.kills.total() < num_kills:
                    self._strike(rng)
            self._wake(until=float("inf"))

    @contextmanager
    def _meanwhile(self, *, restarts_each: int, deadline: float) -> Iterator[list[Future[None]]]:
        """Users at work, and servers and the second host going down; what is given are the latter, which end by themselves."""
        calm = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(self.users.submit_until, calm), pool.submit(self.users.wish_until, calm)]
            others = [pool.submit(self._restart, restarts_each, deadline), pool.submit(self._lose_power, deadline)]
            try:
                yield others
            finally:
                calm.set()
        for future in (*working, *others):
            future.result()

    def _strike(self, rng: random.Random) -> None:
        match rng.choices(list(MISCHIEF), list(MISCHIEF.values()))[0]:
            case "kill":
                found = victims.draw(self._target.roots, rng)
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

    def _restart(self, times: int, deadline: float) -> None:
        rng = random.Random(self.seed + 2)
        order = [name for name in self._servers for _ in range(times)]
        rng.shuffle(order)
        for name in order:
            time.sleep(5 + rng.random())  # RabbitMQ 3.10 forgets a quorum queue that is killed just after its birth
            if time.monotonic() > deadline:
                return
            self._servers[name]()
            self.restarts[name] += 1

    def _lose_power(self, deadline: float) -> None:
        rng = random.Random(self.seed + 4)
        for _ in range(NUM_POWER_LOSSES):
            time.sleep(rng.uniform(5, 15))
            if time.monotonic() > deadline:
                return
            self._target.second.lose_power()
            self.hits["host"] += 1
            time.sleep(rng.uniform(0, 10))
            self._target.second.start()
