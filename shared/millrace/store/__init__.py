"""The seam to the object store: content-addressed blobs, manifests, and fenced refs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from millrace.contracts.artifacts import FileEntry, Ref


class Store(Protocol):
    """Blobs are write-once and named by SHA-256; refs are small mutable JSON bodies. One tenant per instance.

    Keys: ``t/<tenant>/cas/sha256/ab/cd/<hex>`` and ``t/<tenant>/refs/<name>``. Safe under many threads and processes.
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

    def check(self) -> None:
        """Raise Unavailable or Unauthorized, with a remedy, unless reading and writing work."""


FileEntries = tuple[FileEntry, ...]
