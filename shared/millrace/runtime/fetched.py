"""The host's cache of what attempts fetched: bounded, least recently used first, and never what an attempt asked for.

    <root>/ab/<digest><suffix>      a blob; its time of modification is when it was last asked for
    <root>/trees/<digest>/...       an artifact's files under their names, as hard links; its time as above
    <root>/.uses/<name>             what one attempt asked for, a line each, locked while it lives
    <root>/.lock                    shared by whoever asks, exclusive for whoever removes
    <root>/.tally                   bytes fetched, and at how many to look again; a guess that looking corrects

Asking notes the use before it looks for the file, and removing reads the notes under the lock: so what was found stays. A
note whose lock can be taken is a dead attempt's. Other directories under root are not looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace.contracts.artifacts import Manifest
from millrace.store import Store
from millrace.store.disk import sweep, translated

_USES, _LOCK, _TALLY, _TREES, _GONE = ".uses", ".lock", ".tally", "trees", ".gone-"

SLACK = 10
"""A tenth more is let in before the cache is looked through again, and as much is removed beyond need."""


class FetchCache:
    """One attempt's view of the cache. Thread-safe. What a forked process asks for stays at least as long as that process.

    Args:
        root: Of the host's cache; made when it is first needed.
        max_bytes: What it may hold, as far as living attempts did not ask for more; 0: anything.
    """

    def __init__(self, root: Path, *, max_bytes: int = 0) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._uses: list[tuple[int, Path]] = []
        self._noted: set[str] = set()

    def file(self, store: Store, digest: str, *, size_bytes: int | None = None, suffix: str = "") -> Path:
        """A local, verified, read-only copy of a blob, which stays until this attempt ends.

        Raises:
            NotFound, Corrupt, Unavailable: From the store.
            ResourceExhausted: The disk is full.
        """
        target = self.root / digest[:2] / (digest + suffix)
        if not self._asked(target.name, target):
            self._make_room(store.size(digest) if size_bytes is None else size_bytes)
            store.fetch(digest, target)
        return target

    def tree(self, store: Store, digest: str, manifest: Manifest) -> Path:
        """A local directory with every file of an artifact under its manifest path. Raises what `file` raises."""
        tree = self.root / _TREES / digest
        self._asked(digest, tree)
        for entry in manifest.files:
            # Each is looked for: a mark that all are there may outlive a power loss that they do not.
            target, suffix = tree / entry.path, Path(entry.path).suffix
            if not target.exists():
                _link(self.file(store, entry.digest, size_bytes=entry.size_bytes, suffix=suffix), target)
        return tree

    def close(self) -> None:
        """This attempt needs nothing any more."""
        self._noted.clear()
        while self._uses:
            fd, path = self._uses.pop()
            path.unlink(missing_ok=True)
            os.close(fd)

    def _asked(self, name: str, path: Path) -> bool:
        """Note that this attempt uses a name, from before it looks; return whether it is there."""
        if name in self._noted:
            return path.exists()
        with translated("write", self.root), _locked(self.root / _LOCK, fcntl.LOCK_SH):
            if not self._uses:  # two threads that see this have a file each
                self._uses.append(_new_uses(self.root / _USES))
            os.write(self._uses[0][0], f"{name}\n".encode())
            self._noted.add(name)
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def _make_room(self, size_bytes: int) -> None:
        """Count what is about to be fetched, and look through the cache if that may be too much."""
        if not self._max_bytes:
            return
        with translated("write", self.root), _locked(self.root / _TALLY, fcntl.LOCK_EX) as tally:
            held, look_at = _read_tally(tally, default=(0, 0))
            held += size_bytes
            if held > look_at:
                room = self._max_bytes - size_bytes
                held = trim(self.root, max_bytes=room - room // SLACK if room > 0 else 0) + size_bytes
                look_at = max(self._max_bytes, held + self._max_bytes // SLACK)
            os.ftruncate(tally, 0)
            os.pwrite(tally, f"{held} {look_at}".encode(), 0)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A blob or a tree: what goes as one.

    Attributes:
        name: As attempts note it.
        used_at: When it was last asked for.
        inodes: Its files; a blob and the trees that hold it share them.
    """

    name: str
    path: Path
    used_at: float
    inodes: tuple[int, ...]


def trim(root: Path, *, max_bytes: int) -> int:
    """Remove what was not asked for longest, until at most so much is left or all the rest is in use.

    Returns:
        How many bytes are left.
    """
    sizes: dict[int, int] = {}
    found = sorted([*_blobs(root, sizes), *_trees(root, sizes)], key=lambda kept: kept.used_at)
    num_names = Counter(inode for kept in found for inode in kept.inodes)
    held, doomed = sum(sizes.values()), []
    with _locked(root / _LOCK, fcntl.LOCK_EX):
        used = _used(root)
        for kept in found:
            if held <= max_bytes:
                break
            if kept.name in used or _was_asked(kept):
                continue
            doomed.append(_remove(kept))
            num_names.subtract(kept.inodes)
            held -= sum(sizes.pop(inode) for inode in set(kept.inodes) if num_names[inode] == 0)
    for path in (*filter(None, doomed), *root.glob(f"{_TREES}/{_GONE}*")):
        shutil.rmtree(path, ignore_errors=True)
    return held


def _blobs(root: Path, sizes: dict[int, int]) -> Iterator[_Kept]:
    for folder in root.glob("[0-9a-f][0-9a-f]"):
        sweep(folder)
        for entry in _entries(folder):
            if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                status = entry.stat(follow_symlinks=False)
                sizes[status.st_ino] = status.st_size
                yield _Kept(entry.name, Path(entry.path), status.st_mtime, (status.st_ino,))


def _trees(root: Path, sizes: dict[int, int]) -> Iterator[_Kept]:
    for entry in _entries(root / _TREES):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            inodes, used_at = [], entry.stat(follow_symlinks=False).st_mtime
            for parent, _, names in os.walk(entry.path):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        status = os.lstat(os.path.join(parent, name))
                        sizes[status.st_ino] = status.st_size
                        inodes.append(status.st_ino)
            yield _Kept(entry.name, Path(entry.path), used_at, tuple(inodes))


def _was_asked(kept: _Kept) -> bool:
    """Whether somebody asked for it, or made it anew, since it was looked at."""
    try:
        return kept.path.stat().st_mtime != kept.used_at
    except FileNotFoundError:
        return False


def _remove(kept: _Kept) -> Path | None:
    """Take it away; of a tree, return what is left to delete, under another name."""
    with contextlib.suppress(FileNotFoundError):
        if kept.path.parent.name != _TREES:
            kept.path.unlink()
            return None
        return kept.path.rename(kept.path.with_name(f"{_GONE}{secrets.token_hex(8)}"))
    return None


def _new_uses(folder: Path) -> tuple[int, Path]:
    folder.mkdir(exist_ok=True)
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd, path


def _used(root: Path) -> set[str]:
    """What living attempts asked for; what the dead noted is removed."""
    names: set[str] = set()
    for entry in _entries(root / _USES):
        with contextlib.suppress(FileNotFoundError), open(entry.path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                names.update(file.read().decode().splitlines())
            else:
                os.unlink(entry.path)
    return names


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield fd
    finally:
        os.close(fd)


def _read_tally(fd: int, *, default: tuple[int, int]) -> tuple[int, int]:
    """What it says; the default if it is new, or was cut off."""
    try:
        held, look_at = map(int, os.pread(fd, 64, 0).split())
    except ValueError:
        return default
    return held, look_at


def _link(source: Path, target: Path) -> None:
    # In one step. A scratch name would stay in the tree when two attempts make it together: renaming one name of a file
    # to another of the same file does nothing, says POSIX.
    with translated("write", target), contextlib.suppress(FileExistsError):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
