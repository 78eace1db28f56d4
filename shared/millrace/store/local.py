"""The local adapter: a directory, durable and safe under many processes, for one machine without a server."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.folders import make_folder, sync_folder
from millrace.store import BlobInfo, keys, refs
from millrace.store.ages import GRACE_S, is_old
from millrace.store.disk import (
    Source,
    copy,
    deliver,
    open_input,
    replacement,
    settle,
    sweep,
    translated,
)
from millrace.store.verified import hash_stream, missing, too_large, verified

_REF_SUFFIX = ".ref"  # so that refs `a` and `a/b` are the file `a.ref` and the folder `a`
_NUM_LOCKS = 64


class LocalStore:
    """Blobs and refs as files under a root. Holds no open files between calls, so it survives a fork.

    A write is complete, fsynced and renamed into place, directory included, before a call returns; a reader sees all
    of it or nothing. Storing a blob that is there already verifies it, and replaces it if its bytes have rotted.
    """

    def __init__(self, root: Path, *, tenant: str, grace_s: float = GRACE_S) -> None:
        """Create the tenant's folders. Raises Unauthorized, ResourceExhausted or Unavailable if that is impossible."""
        self.tenant = tenant
        self._grace_s = grace_s
        self._root = root.absolute()
        self._home = self._root / keys.tenant_prefix(tenant)
        self._pending = self._home / "tmp"
        self._durable: set[Path] = set()
        with translated("use the store at", self._root):
            for folder in (self._pending, self._home / "locks", self._home / "refs"):
                self._make(folder)
            sweep(self._pending)

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        """See Store.put_stream."""
        with replacement(self._pending) as (file, path):
            digest, size = copy(stream, file, path)
            target = self._blob(digest)
            with translated("write", target):
                self._make(target.parent)
                if not self._reuse(target, digest, size):
                    os.fchmod(file.fileno(), 0o444)
                    settle(file)
                    with self._locked(digest):
                        path.rename(target)
                # Also when another process wrote it: its name may not have reached the disk yet.
                sync_folder(target.parent)
        return digest, size

    def put_bytes(self, data: bytes) -> str:
        """See Store.put_bytes."""
        return self.put_stream(io.BytesIO(data))[0]

    def put_file(self, path: Path) -> tuple[str, int]:
        """See Store.put_file."""
        with open_input(path) as stream:
            return self.put_stream(stream)

    def get_bytes(self, digest: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        """See Store.get_bytes."""
        if (size := self.size(digest)) > max_bytes:
            raise too_large(digest, size, max_bytes)
        with self.open(digest) as stream:
            return stream.read()

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """See Store.open."""
        path = self._blob(digest)
        with translated("read", path):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise missing(digest) from None
        with file:
            yield verified(Source(file, path), digest, size=os.fstat(file.fileno()).st_size)

    def fetch(self, digest: str, destination: Path) -> None:
        """See Store.fetch."""
        with self.open(digest) as source:
            deliver(source, destination)

    def exists(self, digest: str) -> bool:
        """See Store.exists."""
        return self._blob(digest).is_file()

    def size(self, digest: str) -> int:
        """See Store.size."""
        path = self._blob(digest)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            raise missing(digest) from None

    def read_ref(self, name: str) -> Ref | None:
        """See Store.read_ref."""
        path = self._ref(name)
        with translated("read", path):
            try:
                body = path.read_bytes()
            except FileNotFoundError:
                return None
        return refs.decode(name, body)

    def write_ref(self, name: str, ref: Ref, *, expected: Ref | None) -> bool:
        """See Store.write_ref."""
        path = self._ref(name)
        with self._locked(name):
            settled = refs.settled(self.read_ref(name), ref, expected=expected)
            if settled is not None:
                return settled
            with replacement(self._pending) as (file, draft), translated("write", path):
                self._make(path.parent)
                file.write(ref.to_json().encode())
                settle(file)
                draft.replace(path)
                sync_folder(path.parent)
        return True

    def list_refs(self, prefix: str = "") -> Iterator[str]:
        """See Store.list_refs."""
        top = self._home / "refs"
        found = (path.relative_to(top).as_posix() for path in top.rglob(f"*{_REF_SUFFIX}"))
        names = (name.removesuffix(_REF_SUFFIX) for name in found)
        yield from sorted(name for name in names if name.startswith(prefix))

    def delete_ref(self, name: str) -> None:
        """See Store.delete_ref."""
        path = self._ref(name)
        with self._locked(name), translated("remove", path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)  # else it may come back, when what it names has been collected

    def refresh(self, digest: str) -> bool:
        """See Store.refresh."""
        path = self._blob(digest)
        with self._locked(digest), translated("touch", path):
            try:
                if is_old(path.stat().st_mtime, now=time.time(), grace_s=self._grace_s):
                    os.utime(path)
            except FileNotFoundError:
                return False
        return True

    def list_blobs(self, *, after: str = "") -> Iterator[BlobInfo]:
        """See Store.list_blobs."""
        top = self._root / keys.blob_prefix(self.tenant)
        for first in _names(top, after[:2]):
            for second in _names(top / first, after[2:4] if after.startswith(first) else ""):
                folder = top / first / second
                for digest in _names(folder, after):
                    with contextlib.suppress(FileNotFoundError):
                        found = (folder / digest).stat()
                        if digest > after:
                            yield BlobInfo(digest, found.st_size, found.st_mtime)

    def delete_blobs(self, digests: Sequence[str], *, untouched_since: float) -> list[str]:
        """See Store.delete_blobs."""
        return [digest for digest in digests if self._delete(digest, untouched_since)]

    def clear_leftovers(self, *, untouched_since: float) -> int:
        """See Store.clear_leftovers."""
        return sweep(self._pending, limit=untouched_since)

    def clock(self) -> float:
        """See Store.clock."""
        # The file system's: of a network disk it is the server's, which is not this host's.
        probe = self._pending / f".{secrets.token_hex(8)}.tmp"
        with translated("write", probe):
            probe.touch()
            try:
                return probe.stat().st_mtime
            finally:
                probe.unlink()

    def check(self) -> None:
        """See Store.check."""
        digest = self.put_bytes(b"millrace store check\n")
        self.get_bytes(digest)

    def _blob(self, digest: str) -> Path:
        return self._root / keys.blob_key(self.tenant, digest)

    def _ref(self, name: str) -> Path:
        if any(part.endswith(_REF_SUFFIX) for part in name.split("/")):
            raise errors.InvalidInput(f"{name!r} is not a ref's name.", remedy=f"No part may end in {_REF_SUFFIX!r}.")
        return self._root / f"{keys.ref_key(self.tenant, name)}{_REF_SUFFIX}"

    def _reuse(self, target: Path, digest: str, size: int) -> bool:
        """Whether the blob is there, whole, and young enough to stay; it is touched if it was not."""
        try:
            with target.open("rb") as existing:
                return hash_stream(existing) == (digest, size) and self.refresh(digest)
        except (FileNotFoundError, errors.Unauthorized):  # another user's file cannot be touched: it is replaced
            return False

    def _delete(self, digest: str, untouched_since: float) -> bool:
        path = self._blob(digest)
        with self._locked(digest), translated("remove", path):
            try:
                if path.stat().st_mtime >= untouched_since:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def _make(self, folder: Path) -> None:
        """Create a folder so that it survives a power loss: the parent is synced once a process, whoever made it."""
        if folder in self._durable:
            return
        if folder != self._root:
            self._make(folder.parent)
        make_folder(folder)
        self._durable.add(folder)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        # A fixed set of lock files: one for each name would leave a file behind for each name ever used. flock is held
        # by the open file, so it excludes threads as well as processes, and the kernel drops it when its owner dies.
        stripe = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _NUM_LOCKS
        with translated("lock", self._home), (self._home / "locks" / f"{stripe:02d}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _names(folder: Path, at_least: str) -> list[str]:
    """What a folder holds, sorted, from a name on."""
    try:
        return sorted(name for name in os.listdir(folder) if name >= at_least)
    except FileNotFoundError:
        return []
