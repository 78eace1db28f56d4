"""The seam to the object store: content-addressed blobs, manifests, and fenced refs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from millrace.contracts.artifacts import FileEntry, Ref


class BlobInfo(NamedTuple):
    """A blob as a listing shows it.

    Attributes:
        modified_at: When it was last written or touched, in seconds since 1970 by the store's own clock.
    """

    digest: str
    size_bytes: int
    modified_at: float


class Store(Protocol):
    """Blobs are write-once and named by SHA-256; refs are small mutable JSON bodies. One tenant per instance.

    Keys: ``t/<tenant>/cas/sha256/ab/cd/<hex>`` and ``t/<tenant>/refs/<name>``. Safe under many threads and processes.

    Storing a blob that is there already touches it if it is older than half the grace: what a writer stored is not
    collected as garbage before it can be announced (docs/operations.md, "Garbage collection").
    """

    tenant: str

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        """Store the stream's bytes durably; return (digest, size in bytes). Memory stays bounded."""

    def put_bytes(self, data: bytes) -> str:
        """Store a small blob durably; return its digest."""

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a file's bytes durably; return (digest, size in bytes).

        Raises NotFound or InvalidInput (no such file, a directory), and may raise Conflict if it changes meanwhile.
        """

    def get_bytes(self, digest: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        """Return a blob, verified. Raises NotFound, Corrupt, Unavailable, ResourceExhausted (larger than max_bytes)."""

    def open(self, digest: str) -> AbstractContextManager[BinaryIO]:
        """Stream a blob; reading to the end verifies it and raises Corrupt if it differs."""

    def fetch(self, digest: str, destination: Path) -> None:
        """Write a verified blob to destination atomically; resumes by range after a dropped connection."""

    def exists(self, digest: str) -> bool:
        """Whether the blob is there. Does not verify its bytes."""

    def size(self, digest: str) -> int:
        """The blob's size in bytes. Raises NotFound."""

    def read_ref(self, name: str) -> Ref | None:
        """Return the ref's body, or None if the name was never written."""

    def write_ref(self, name: str, ref: Ref, *, expected: Ref | None) -> bool:
        """Compare-and-set: write ref if the current body equals expected (None: absent).

        True if ref is what the name now holds by this write (a lost answer is settled by reading back the nonce),
        False if somebody else's body is there, or if ref's fence is lower than the one there.
        """

    def list_refs(self, prefix: str = "") -> Iterator[str]:
        """Names of refs under a prefix, sorted."""

    def delete_ref(self, name: str) -> None:
        """Remove a ref; nothing if there is none. Only for refs that nobody writes any more."""

    def refresh(self, digest: str) -> bool:
        """Touch a blob that is older than half the grace, as storing it again would; False if it is not there."""

    def list_blobs(self, *, after: str = "") -> Iterator[BlobInfo]:
        """Blobs in order of their digests, from the first one greater than `after`; a page in memory at a time."""

    def delete_blobs(self, digests: Sequence[str], *, untouched_since: float) -> list[str]:
        """Delete those that were not written or touched since, looked at right before; return what was deleted.

        A writer that stores one of them at the same moment has it afterwards. May stop early: ask again for the rest.
        One caller at a time.
        """

    def clear_leftovers(self, *, untouched_since: float) -> int:
        """Remove unfinished uploads that began before; return how many there were."""

    def clock(self) -> float:
        """The store's own clock, which `modified_at` is told by, in seconds since 1970."""

    def check(self) -> None:
        """Raise Unavailable or Unauthorized, with a remedy, unless reading and writing work."""


FileEntries = tuple[FileEntry, ...]
