"""One factory a home: who holds its lock, and where its gateway is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from millrace import errors
from millrace.folders import make_folder


def make_home(home: Path) -> None:
    """Have the directory that holds a factory's state.

    Raises:
        InvalidInput: It cannot be made or written to.
    """
    try:
        make_folder(home)
        is_writable = os.access(home, os.W_OK | os.X_OK)
        reason = "permission denied"
    except OSError as error:
        is_writable, reason = False, str(error.strerror)
    if not is_writable:
        raise errors.InvalidInput(
            f"Cannot write to {home}: {reason}.", field="MILLRACE_HOME", remedy="Give a directory one may write to."
        )


@contextmanager
def factory_lock(home: Path, *, url: str) -> Iterator[None]:
    """Be the one factory of a home: hold `factory.lock`, and say in `factory.json` where its gateway is.

    Raises:
        Conflict: Another process holds it; the message says which and where.
        InvalidInput: The home cannot be written to.
    """
    make_home(home)
    facts = home / "factory.json"
    with (home / "factory.lock").open("ab") as lock:
        if not _locked(lock):
            raise errors.Conflict(
                f"A factory already runs in {home}{_described(facts)}.",
                remedy="Use it, stop it, or set MILLRACE_HOME to another directory.",
                field="MILLRACE_HOME",
            )
        scratch = facts.with_suffix(".tmp")
        scratch.write_text(json.dumps({"url": url, "pid": os.getpid(), "started_at": time.time()}))
        scratch.replace(facts)
        try:
            yield
        finally:
            facts.unlink(missing_ok=True)


def find_factory(home: Path) -> dict[str, Any] | None:
    """`{"url", "pid", "started_at"}` of the factory that runs in a home; None if none does."""
    try:
        with (home / "factory.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError):
            facts: dict[str, Any] = json.loads((home / "factory.json").read_text())
            return facts
    return None


def _described(facts: Path) -> str:
    try:
        told = json.loads(facts.read_text())
        return f" (process {', '.join(str(told[key]) for key in ('pid', 'url') if told[key])})"
    except (OSError, ValueError, KeyError):
        return ""


def _locked(lock: IO[bytes]) -> bool:
    """Take the lock; a few tries, as who asks `find_factory` holds it for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False
