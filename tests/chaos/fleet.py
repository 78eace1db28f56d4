"""Independent processes of one factory, each of which may be hit or replaced, and a reader of runs who changes gateways."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from chaos.hosts import SETTINGS, TESTS
from millrace.settings import Settings
from millrace.testing.factory import environment_of
from servers.process import free_ports

THIS = ("millrace.runtime.service",)
NEXT = ("chaos.next_version",)


@dataclass
class Fleet:
    """The processes that run, in the order in which they were started."""

    settings: Settings
    members: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, program: Sequence[str] = THIS, port: int = 0) -> subprocess.Popen[bytes]:
        """Start a service, such as `conductor`; a gateway at its port."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
        environment = {**environment_of(self.settings), **SETTINGS, "MILLRACE_GATEWAY_PORT": str(port)}
        self.settings.home.mkdir(parents=True, exist_ok=True)
        with self._log(arguments[0]).open("ab") as log:
            member = subprocess.Popen(
                [sys.executable, "-m", *program, *arguments], cwd=TESTS, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={**inherited, **environment},
            )  # fmt: skip
        self.members.append(member)
        return member

    def gateway(self, *, program: Sequence[str] = THIS, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
        """Start a gateway; return it and its URL."""
        port = port or free_ports(1)[0]
        return self.start("gateway", program=program, port=port), f"http://127.0.0.1:{port}"

    def wait_ready(self, url: str) -> None:
        def answers() -> bool:
            try:
                return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
            except httpx.HTTPError:
                return False

        deadline = time.monotonic() + 60
        while not answers():
            assert time.monotonic() < deadline, self._log("gateway").read_text()[-2000:]
            time.sleep(0.1)

    def _log(self, name: str) -> Path:
        return self.settings.home / f"{name}.txt"


@contextlib.contextmanager
def running_fleet(settings: Settings) -> Iterator[Fleet]:
    """No processes yet; those that are started in the block end with it."""
    fleet = Fleet(settings)
    try:
        yield fleet
    finally:
        living = [m for m in fleet.members if m.poll() is None]
        for member in living:
            member.send_signal(signal.SIGTERM)
        for member in living:
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.wait(30)
        for member in living:
            member.kill()
            member.wait()


def read_run(run_id: str, urls: Sequence[str], *, each: int, is_over: Callable[[], bool]) -> list[tuple[int, str]]:
    """Read a run's events to its end as (number, type): at most `each` of them, then go on at the next gateway."""
    told: list[tuple[int, str]] = []
    turn = 0
    while not is_over():
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(told[-1][0] if told else 0)}
        address, turn = f"{urls[turn % len(urls)]}/v1/runs/{run_id}/events", turn + 1
        try:
            with httpx.stream("GET", address, headers=headers, timeout=20, trust_env=False) as answer:
                if answer.status_code == 204:
                    return told
                answer.raise_for_status()
                told += _some(answer, each)
        except httpx.TransportError:  # this gateway is dead: the other one goes on
            time.sleep(0.1)
    raise AssertionError(f"{run_id} had no end: {told}")


def _some(answer: httpx.Response, most: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    number = 0
    with contextlib.suppress(httpx.TransportError):  # what came before it broke off counts
        for line in answer.iter_lines():
            if line.startswith("id:"):
                number = int(line[3:])
            elif line.startswith("data:") and number:
                found.append((number, json.loads(line[5:])["type"]))
                number = 0
                if len(found) == most:
                    break
    return found
