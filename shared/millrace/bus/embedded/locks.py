"""Locks between processes: flock, which the kernel gives back when its holder dies, however it dies.

A lock belongs to an open file description, which a fork shares. So a forked child closes its copies at once: else a
task's child would keep its killed worker alive in the eyes of all others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path


class LockFile:
    """An open file that can be locked. Threads that share one must serialize themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _OPEN.add(self)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it. Waiters are served in order, which SQLite's own busy loop does not do."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def acquire(self) -> bool:
        """Take the lock if it is free, until close or death."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def is_linked(self) -> bool:
        """Whether the path still names this file: another process may have removed it before we had the lock."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_OPEN: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _close_in_child() -> None:
    for lock in list(_OPEN):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)
