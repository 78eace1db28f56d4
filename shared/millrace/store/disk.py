"""Durable files: fsync of contents, atomic replacement, and the system's errors in our words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from millrace import errors
from millrace.store.verified import Readable, chunks

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISPLACED = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
STALE_S = 24 * 3600.0


@contextlib.contextmanager
def translated(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError into ResourceExhausted, Unauthorized, InvalidInput or Unavailable, with the path and a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise errors.ResourceExhausted(
                f"Cannot {action} {path}: {reason}.",
                remedy="Free space there, or point MILLRACE_HOME, MILLRACE_STORE_URL or TMPDIR to a disk with room.",
            ) from error
        if error.errno in _DENIED:
            raise errors.Unauthorized(
                f"Cannot {action} {path}: {reason}.",
                remedy="Give this user the right to write there, or set MILLRACE_HOME or MILLRACE_STORE_URL elsewhere.",
            ) from error
        if error.errno in _MISPLACED:
            raise errors.InvalidInput(
                f"Cannot {action} {path}: {reason}.",
                remedy="Choose another path; MILLRACE_HOME and a file:// MILLRACE_STORE_URL name directories.",
            ) from error
        raise errors.Unavailable(
            f"Cannot {action} {path}: {reason}.", remedy="Check that the disk is mounted and healthy."
        ) from error


class Source:
    """A file being read, whose failures speak our words."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1, /) -> bytes:
        with translated("read", self._path):
            return self._file.read(size)


def open_input(path: Path) -> BinaryIO:
    """Open a caller's file for reading. Raises NotFound, InvalidInput (not a file), Unauthorized or Unavailable."""
    with translated("read", path):
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise errors.NotFound(f"There is no file {path}.", remedy="Check the path.") from None
        except IsADirectoryError:
            raise errors.InvalidInput(f"{path} is a directory.", remedy="Give a file.") from None


@contextlib.contextmanager
def replacement(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield an empty file in folder and its path, for the caller to fill, `settle` and rename; removed if it stays."""
    path = folder / f".{os.getpid()}-{secrets.token_hex(8)}.tmp"
    with translated("write", path):
        file = path.open("xb")
    try:
        yield file, path
    finally:
        # What is still buffered belongs to a file that is given up: its disk may be full, which was said already.
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def copy(source: Readable, file: BinaryIO, path: Path) -> tuple[str, int]:
    """Write a source's bytes to an open file; return (digest, size in bytes). Errors of the source pass as they are."""
    sha, size = hashlib.sha256(), 0
    for chunk in chunks(source):
        sha.update(chunk)
        with translated("write", path):
            size += file.write(chunk)
    return sha.hexdigest(), size


def deliver(source: Readable, destination: Path) -> None:
    """Write a source's bytes to a path, of which a reader sees nothing or all; its folders are made."""
    with translated("write", destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with replacement(destination.parent) as (file, path):
        copy(source, file, path)
        with translated("write", destination):
            settle(file)
            path.replace(destination)


def settle(file: BinaryIO) -> None:
    """Flush a file's bytes to the disk itself."""
    file.flush()
    os.fsync(file.fileno())


def sweep(folder: Path, *, limit: float | None = None) -> int:
    """Remove what killed writers left in folder before limit, by default a day ago; return how many files that were."""
    limit = time.time() - STALE_S if limit is None else limit
    num_removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            # Another process may sweep at the same moment.
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".tmp") and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)
                    num_removed += 1
    return num_removed
