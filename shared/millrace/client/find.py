"""Which gateway a client talks to: the one it was told of, the one that runs in the home, or one that it starts."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

import httpx

from millrace import errors

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.1
TAIL_BYTES = 2000


class Factory:
    """A factory in a process of its own, which ends when this one does: it reads a pipe whose other end we hold."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._finalizer = weakref.finalize(self, _stop, process)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        """Stop it and wait. Runs that were accepted go on when a factory next starts in this home."""
        self._finalizer()


@dataclass(frozen=True, slots=True)
class Found:
    """A gateway that answers, and the factory that was started for it, if one was."""

    url: str
    factory: Factory | None = None


def find_gateway(url: str | None, home: str | os.PathLike[str] | None) -> Found:
    """Return a gateway that answers: the one at `url` or MILLRACE_URL, else of the home's factory, else of a new one. Blocks.

    Raises:
        InvalidInput: The URL is none.
        Unavailable: A factory was started and did not get ready; the message has the end of its log.
    """
    told = url or ("" if home else os.environ.get("MILLRACE_URL", ""))
    if told:
        if not _is_url(told):
            raise errors.InvalidInput(
                f"Expected a URL that starts with http:// or https:// and a host; found {told!r}.",
                field="url" if url else "MILLRACE_URL",
            )
        return Found(told.rstrip("/"))
    directory = Path(home or os.environ.get("MILLRACE_HOME") or "~/.millrace").expanduser().absolute()
    running = running_gateway(directory)
    return Found(running) if running else _start(directory)


def _is_url(text: str) -> bool:
    try:
        parsed = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def running_gateway(home: Path) -> str:
    """The URL of the gateway that a home announces, if its process lives and answers; else an empty text."""
    try:
        announced = json.loads((home / "run" / "gateway.json").read_text(encoding="utf-8"))
        url, pid = str(announced["url"]), int(announced["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if not _lives(pid):
        return ""
    return url if _answers(f"{url}/healthz") else ""


def _start(home: Path) -> Found:
    log = home / "logs" / "factory.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    except OSError as error:
        raise errors.InvalidInput(
            f"Cannot write {log}: {error.strerror}.", field="MILLRACE_HOME", remedy="Give a directory one may write to."
        ) from None
    begin = output.tell()
    with output:
        # Ports that nobody asked for are free ones: another home's factory may hold the usual.
        free = {"MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "millrace.cli", "up", "--attached"],
            stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
            env={**free, **os.environ, "MILLRACE_HOME": str(home)},
        )  # fmt: skip
    factory = Factory(process)
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        url = running_gateway(home)
        if url and _answers(f"{url}/readyz"):
            if factory.has_ended:  # another script's factory was first, and holds the home's lock
                return Found(url)
            return Found(url, factory)
        if factory.has_ended and not is_held(home):
            break
        time.sleep(POLL_S)
    exit_code = factory.exit_code
    factory.stop()
    state = "did not get ready in time" if exit_code is None else f"ended with exit code {exit_code}"
    raise errors.Unavailable(
        f"The factory in {home} {state}. The end of its log:\n{_tail(log, begin)}",
        remedy=f"See {log}, or start it by hand: millrace up",
    )


def is_held(home: Path) -> bool:
    """Whether a factory holds this home's lock, even if it does not answer yet."""
    try:
        with (home / "factory.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _tail(log: Path, begin: int) -> str:
    try:
        data = log.read_bytes()[begin:][-TAIL_BYTES:]
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace").strip()
