"""A whole factory for tests: its processes under the real supervisor, on any stack."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace import Client
from millrace.client.find import running_gateway
from millrace.settings import Settings

READY_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Factory:
    """A running factory.

    Attributes:
        client: Connected to its gateway.
        pid: Of the supervisor.
        home: Its directory.
        environment: The `MILLRACE_*` variables of its processes.
    """

    client: Client
    pid: int
    home: Path
    environment: Mapping[str, str]


def environment_of(settings: Settings) -> dict[str, str]:
    """The `MILLRACE_*` variables that give these settings; ports are free ones."""
    values = {
        "HOME": str(settings.home),
        "BROKER_URL": settings.broker_url,
        "DATABASE_URL": settings.database_url,
        "STORE_URL": settings.store_url,
        "STORE_ACCESS_KEY": settings.store_access_key,
        "STORE_SECRET_KEY": settings.store_secret_key.get_secret_value(),
        "GATEWAY_PORT": "0",
        "SERVE_PORT": "0",
    }
    return {f"MILLRACE_{name}": value for name, value in values.items() if value}


@contextmanager
def running_factory(environment: Mapping[str, str]) -> Iterator[Factory]:
    """Start `millrace up` with these variables, wait for it, and stop it at the end of the block."""
    home = Path(environment["MILLRACE_HOME"])
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace.cli", "up", "--attached"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(_stop, process)
        client = stack.enter_context(Client(_wait_for_url(home, process)))
        yield Factory(client, process.pid, home, environment)


def _wait_for_url(home: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        url = running_gateway(home)
        if url:
            return url
        time.sleep(0.1)
    logs = "\n".join(f"{p.name}: {p.read_text()[-1000:]}" for p in home.glob("logs/*.log"))
    raise TimeoutError(f"no gateway in {home}; exit code {process.poll()}\n{logs}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(STOP_S)
