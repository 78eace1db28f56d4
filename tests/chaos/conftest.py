"""A factory on two hosts, as it were, that may be hit anywhere."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad_inputs import ROWS
from chaos.storm import Storm
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory
from servers.postgres import Postgres
from servers.process import free_ports
from servers.rabbitmq import RabbitMQ
from servers.radosgw import RadosGW

TESTS = Path(__file__).parents[1]

SETTINGS = {
    "MILLRACE_LEASE_S": "8",  # a host that is lost is to be missed within the test's time
    "MILLRACE_HEARTBEAT_S": "1",
    "MILLRACE_GRACE_S": "2",
    "MILLRACE_LOG_LEVEL": "info",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Target:
    """What a storm is let loose on.

    Attributes:
        settings: Of the whole, for the history checker.
        factory: The first host.
        second: The second host's supervisor.
        urls: Of both gateways.
    """

    settings: Settings
    factory: Factory
    second: subprocess.Popen[bytes]
    urls: tuple[str, str]

    def storm(self, seed: int, *, data: Path, restarts: dict[str, Callable[[], None]] | None = None) -> Storm:
        return Storm(
            self.urls, lambda: [self.factory.pid, self.second.pid], seed, restarts=restarts or {}, data=data,
        )  # fmt: skip


@contextlib.contextmanager
def running_target(settings: Settings) -> Iterator[Target]:
    """Both hosts, for a block; they share a home, as a worker's directory is its own."""
    first, second = free_ports(2)
    environment = {**environment_of(settings), **SETTINGS, "MILLRACE_GATEWAY_PORT": str(first)}
    with running_factory(environment) as factory:
        host = subprocess.Popen(
            [sys.executable, "-m", "chaos.second_host"], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**_inherited(), **environment, "MILLRACE_GATEWAY_PORT": str(second)},
        )  # fmt: skip
        try:
            yield Target(settings, factory, host, (f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"))
        finally:
            assert host.stdin is not None
            host.stdin.close()
            host.wait(60)


def _inherited() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that a small model learns in a moment."""
    path = tmp_path_factory.mktemp("chaos") / "rows.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
def restarts(rabbitmq: RabbitMQ, postgres: Postgres, s3_server: RadosGW) -> dict[str, Callable[[], None]]:
    """Each server, stopped as power loss stops it and started again on its data."""

    def again(server: RabbitMQ | Postgres | RadosGW) -> Callable[[], None]:
        def restart() -> None:
            server.stop()
            server.start()

        return restart

    return {"rabbitmq": again(rabbitmq), "postgres": again(postgres), "s3": again(s3_server)}
