"""A factory on two hosts, as it were. The second may lose its power."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos import victims
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory
from servers.process import free_ports

TESTS = Path(__file__).parents[1]

SETTINGS = {
    "MILLRACE_LEASE_S": "8",  # a host that is lost is to be missed within the test's time
    "MILLRACE_HEARTBEAT_S": "1",
    "MILLRACE_GRACE_S": "2",
    "MILLRACE_LOG_LEVEL": "info",
    "OMP_NUM_THREADS": "1",
}


class SecondHost:
    """One more conductor, gateway and worker, under a supervisor of their own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the supervisor; None while the host is down."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.second_host"], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**inherited, **self._environment},
        )  # fmt: skip

    def lose_power(self) -> None:
        """End all its processes at once."""
        if self._process is not None:
            victims.kill_all(self._process.pid)
            self._forget(self._process)

    def stop(self) -> None:
        """End it as `millrace up` ends."""
        if self._process is not None:
            self._forget(self._process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        self._process = None


@dataclass(frozen=True)
class Target:
    """What a storm is let loose on.

    Attributes:
        settings: Of the whole, for the history checker.
        factory: The first host.
        second: The second host.
        urls: Of both gateways.
    """

    settings: Settings
    factory: Factory
    second: SecondHost
    urls: tuple[str, str]

    @property
    def roots(self) -> list[int]:
        """Process ids of the supervisors that run."""
        return [self.factory.pid, *([self.second.pid] if self.second.pid is not None else [])]

    def orphans(self) -> list[object]:
        """What outlives both hosts."""
        return [p for home in {self.settings.home, self.second_home} for p in victims.of_home(str(home))]

    @property
    def second_home(self) -> Path:
        return second_home(self.settings)


def second_home(settings: Settings) -> Path:
    """Where the second host keeps its files: apart, unless bus, ledger and store are files of the first."""
    return settings.home.with_name("home2") if settings.broker_url else settings.home


@contextlib.contextmanager
def running_target(settings: Settings, **changes: str) -> Iterator[Target]:
    """Both hosts, for a block; `changes` are further settings, by their variables' names."""
    first, second = free_ports(2)
    environment = {**environment_of(settings), **SETTINGS, **changes, "MILLRACE_GATEWAY_PORT": str(first)}
    with running_factory(environment) as factory:
        ours = {"MILLRACE_GATEWAY_PORT": str(second), "MILLRACE_HOME": str(second_home(settings))}
        host = SecondHost({**environment, **ours})
        host.start()
        try:
            yield Target(settings, factory, host, (f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"))
        finally:
            host.stop()
