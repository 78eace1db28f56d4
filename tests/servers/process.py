"""Starting a guarded server, waiting until it is ready, and stopping it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


class MissingProgram(Exception):
    """A server's program is not installed. The message says what to do."""


class StartFailed(Exception):
    """A server ended or did not become ready. The message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server under its guard."""

    name: str
    guard: subprocess.Popen[bytes]
    log: Path

    @property
    def is_running(self) -> bool:
        return self.guard.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Poll until ready. Raises StartFailed if the server ends first or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise StartFailed(f"{self.name} did not become ready. Its output ends:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and its descendants; returns when none is left."""
        if self.guard.stdin is not None and not self.guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # the server ended by itself, and its guard with it
                self.guard.stdin.write(b".")
                self.guard.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                self.guard.stdin.close()
        self.guard.wait()


def spawn(
    command: Sequence[str | Path],
    *,
    folder: Path,
    name: str,
    env: Mapping[str, str] | None = None,
    user: str = "",
    stop_signal: signal.Signals = signal.SIGKILL,
) -> Server:
    """Start a command under a guard; its output goes to ``<folder>/<name>.out``."""
    log = folder / f"{name}.out"
    with log.open("wb") as output:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(int(stop_signal)), user, str(folder), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C in the terminal ends the tests, which end the servers
        )
    return Server(name=name, guard=guard, log=log)


def program(name: str, *folders: Path) -> Path:
    """Find a program in folders or on the PATH. Raises MissingProgram."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise MissingProgram(f"{name} is not installed; run `sudo infra/testing/install-servers.sh`.")


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on now.

    They lie below the range the kernel takes clients' ports from, so that a server can come back on its own.
    """
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise StartFailed("No free loopback ports between 20000 and 32000.")


def answers(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def scratch_folder(name: str) -> Path:
    """Make a folder with a short path: a Unix socket's may have 107 bytes, and pytest's own are longer."""
    return Path(tempfile.mkdtemp(prefix=f"millrace-{name}-", dir="/tmp"))
