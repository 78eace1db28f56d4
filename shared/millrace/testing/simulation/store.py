"""The store in memory: blobs by digest, and refs by compare-and-set, as every adapter has them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from millrace.contracts.artifacts import Ref
from millrace.store import BlobInfo, keys, refs
from millrace.store.verified import missing, too_large
from millrace.testing.simulation.clock import Clock


class MemoryStore:
    """Implements `millrace.store.Store` for one tenant. All processes of a simulation share one."""

    def __init__(self, tenant: str, clock: Clock) -> None:
        self.tenant = tenant
        self._clock = clock
        self._blobs: dict[str, bytes] = {}
        self._touched: dict[str, float] = {}
        self._refs: dict[str, Ref] = {}

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        data = stream.read()
        return self.put_bytes(data), len(data)

    def put_bytes(self, data: bytes) -> str:
        digest = digest_of(data)
        self._blobs[digest] = data
        self._touched[digest] = self._clock.now
        return digest

    def put_file(self, path: Path) -> tuple[str, int]:
        with path.open("rb") as stream:
            return self.put_stream(stream)

    def get_bytes(self, digest: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        size = self.size(digest)
        if size > max_bytes:
            raise too_large(digest, size, max_bytes)
        return self._blobs[digest]

    @contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(self.get_bytes(digest))

    def fetch(self, digest: str, destination: Path) -> None:
        destination.write_bytes(self.get_bytes(digest))

    def exists(self, digest: str) -> bool:
        return digest in self._blobs

    def size(self, digest: str) -> int:
        if digest not in self._blobs:
            raise missing(digest)
        return len(self._blobs[digest])

    def read_ref(self, name: str) -> Ref | None:
        return self._refs.get(name)

    def write_ref(self, name: str, ref: Ref, *, expected: Ref | None) -> bool:
        keys.ref_key(self.tenant, name)
        settled = refs.settled(self._refs.get(name), ref, expected=expected)
        if settled is not None:
            return settled
        self._refs[name] = ref
        return True

    def list_refs(self, prefix: str = "") -> Iterator[str]:
        yield from sorted(name for name in self._refs if name.startswith(prefix))

    def delete_ref(self, name: str) -> None:
        self._refs.pop(name, None)

    def refresh(self, digest: str) -> bool:
        if digest in self._blobs:
            self._touched[digest] = self._clock.now
        return digest in self._blobs

    def list_blobs(self, *, after: str = "") -> Iterator[BlobInfo]:
        for digest in sorted(d for d in self._blobs if d > after):
            yield BlobInfo(digest, len(self._blobs[digest]), self._touched[digest])

    def delete_blobs(self, digests: Sequence[str], *, untouched_since: float) -> list[str]:
        gone = [d for d in digests if d in self._blobs and self._touched[d] < untouched_since]
        for digest in gone:
            del self._blobs[digest], self._touched[digest]
        return gone

    def clear_leftovers(self, *, untouched_since: float) -> int:  # noqa: ARG002 - the seam's
        return 0

    def clock(self) -> float:
        return self._clock.now

    def check(self) -> None:
        """It is always there."""


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
