"""A running factory for benchmarks: its processes under the real supervisor, embedded or on real servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from millrace import Client
from servers import postgres, rabbitmq, radosgw

READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Factory:
    """A running factory.

    Attributes:
        client: Connected to its gateway.
        pids: Of the supervisor and of the servers it stands on.
        home: Its directory.
    """

    client: Client
    pids: tuple[int, ...]
    home: Path


@contextmanager
def embedded(**environment: str) -> Iterator[Factory]:
    """A factory without any server."""
    with _started(environment, ()) as factory:
        yield factory


@contextmanager
def production(*, is_durable: bool = True, **environment: str) -> Iterator[Factory]:
    """A factory on RabbitMQ, PostgreSQL (with its fsync) and Ceph's S3 gateway."""
    with rabbitmq.run() as broker, postgres.run(is_durable=is_durable) as database, radosgw.run() as store:
        servers = {
            "MILLRACE_BROKER_URL": broker.new_vhost(),
            "MILLRACE_DATABASE_URL": database.new_database(),
            "MILLRACE_STORE_URL": f"s3+http://{store.endpoint}/bench",
            "MILLRACE_STORE_ACCESS_KEY": store.access_key,
            "MILLRACE_STORE_SECRET_KEY": store.secret_key,
        }
        with _started({**servers, **environment}, _server_pids()) as factory:
            yield factory


def _server_pids() -> tuple[int, ...]:
    """Broker and database, which work for every step; the store's daemons have a life of their own."""
    names = ("beam.smp", "postgres")
    children = psutil.Process().children(recursive=True)
    return tuple(p.pid for p in children if p.name() in names)


@contextmanager
def _started(environment: dict[str, str], servers: tuple[int, ...]) -> Iterator[Factory]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder) / "home"
        settings = {"MILLRACE_HOME": str(home), "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "millrace.cli", "up", "--attached"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **settings},
        )  # fmt: skip
        stack.callback(_stop, process)
        client = stack.enter_context(Client(_wait_for_url(home)))
        yield Factory(client, (process.pid, *servers), home)


def _wait_for_url(home: Path) -> str:
    from millrace.client.find import running_gateway

    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        url = running_gateway(home)
        if url:
            return url
        time.sleep(0.1)
    raise TimeoutError(f"no gateway in {home} after {READY_S} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(60)
