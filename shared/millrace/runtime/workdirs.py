"""A worker's directory for its attempts, held by a lock, so that what a killed worker left is told apart and removed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_workdir(home: Path, worker_id: str) -> Iterator[Path]:
    """Make `work/<worker>` under home for the block, after removing those whose owners are dead."""
    root = home / "work"
    root.mkdir(parents=True, exist_ok=True)
    for lock in root.glob("*.lock"):
        if _is_abandoned(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    lock, directory = root / f"{worker_id}.lock", root / worker_id
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _is_abandoned(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(fd)
