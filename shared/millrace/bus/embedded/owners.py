"""Who is connected: a locked file that proves life, and a bell (a FIFO) that others ring when there is work.

No consumer polls for messages. A lost ring costs at most the fallback interval of `connection.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import uuid
from collections.abc import Callable
from pathlib import Path

from millrace.bus.embedded.locks import LockFile


class Owner:
    """One connection as others see it: it owns the messages it has taken and its private queues."""

    def __init__(self, directory: Path) -> None:
        self.id = uuid.uuid4().hex
        self._bell = directory / f"{self.id}.bell"
        os.mkfifo(self._bell, 0o600)
        # Open for reading and writing: a FIFO without any writer would read as ended, not as silent.
        self._fd = os.open(self._bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._lock = _lock_new(directory / f"{self.id}.lock")

    def wait(self, timeout_s: float) -> bool:
        """Sleep until somebody rings; False if nobody did within timeout_s."""
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 65536)
        return True

    def ring(self) -> None:
        """Wake this connection's own consumer, from any of its threads."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody waits
            os.write(self._fd, b"!")

    def leave(self) -> None:
        """Go, after everything was given back."""
        self._bell.unlink(missing_ok=True)
        self._lock.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Go as the killed do: whoever looks next finds the lock free, and gives back what is still owned."""
        self._lock.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def ring(directory: Path, owner: str) -> None:
    """Wake another connection. One that is dead or already awake is no error."""
    try:
        fd = os.open(directory / f"{owner}.bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.write(fd, b"!")
    finally:
        os.close(fd)


def reap(directory: Path, bury: Callable[[str], None]) -> None:
    """Call bury with the id of each dead owner, once in all processes, and remove its files."""
    for path in directory.glob("*.lock"):
        lock = LockFile(path)
        try:
            if lock.acquire() and lock.is_linked():
                bury(path.stem)
                path.with_suffix(".bell").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        finally:
            lock.close()


def is_known(directory: Path, owner: str) -> bool:
    """Whether an owner, alive or not yet reaped, has its file. It has one from before it owns anything."""
    return (directory / f"{owner}.lock").exists()


def _lock_new(path: Path) -> LockFile:
    while True:
        lock = LockFile(path)
        # Between creation and lock another process may take it for a dead one's, and remove it: then begin again.
        if lock.acquire() and lock.is_linked():
            return lock
        lock.close()
