"""Writing downloaded bytes: verified, and whole or not at all."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from millrace import errors
from millrace.contracts.artifacts import FileEntry

Write = Callable[[bytes], object]


@contextmanager
def verified(entry: FileEntry, target: Path) -> Iterator[Write]:
    """Give a function that takes a file's bytes; on leaving, check them and put the file in its place.

    Raises:
        Corrupt: The bytes are not those that the manifest names; nothing is left behind.
        ResourceExhausted: They do not fit on the disk.
        InvalidInput: The target cannot be written.
    """
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    hasher = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as stream:

            def write(chunk: bytes) -> None:
                hasher.update(chunk)
                stream.write(chunk)

            yield write
        if hasher.hexdigest() != entry.digest:
            raise errors.Corrupt(f"The bytes of {entry.path!r} differ from its digest.", remedy="Download it again.")
        scratch.replace(target)
    except OSError as error:
        raise _refused(error, target) from None
    finally:
        scratch.unlink(missing_ok=True)


def target_of(root: Path, path: str) -> Path:
    """Where a manifest's path lies under a directory.

    Raises:
        InvalidData: It would lie outside.
    """
    target = root / path
    if not target.resolve().is_relative_to(root.resolve()):
        raise errors.InvalidData(f"The artifact names a file outside of its directory: {path!r}.")
    return target


def chosen(files: Iterable[FileEntry], only: Sequence[str]) -> list[FileEntry]:
    """Files whose path one of some globs matches; all without globs."""
    return [f for f in files if not only or any(fnmatch.fnmatchcase(f.path, glob) for glob in only)]


def _refused(error: OSError, target: Path) -> errors.MillraceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.ResourceExhausted(f"{target} does not fit on the disk.", remedy="Free some space.")
    return errors.InvalidInput(f"Cannot write {target}: {error.strerror}.", remedy="Give a path one may write to.")
