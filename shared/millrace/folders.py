"""Folders whose names survive a power loss: a name is on the disk when the folder above it was synced, not before."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Have a folder, and those above it. It is synced also if it is there: whoever made it may not have come to that.

    Raises:
        OSError: It cannot be made.
    """
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    with contextlib.suppress(PermissionError):  # it was given to us, in a folder that we may not read
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
