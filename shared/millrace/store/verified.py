"""Bytes that are checked as they flow: a reader that ends in Corrupt if what it read is not what its digest names."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast

from millrace import errors

CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """The least a source of bytes must do."""

    def read(self, size: int = -1, /) -> bytes: ...


class _VerifiedRaw(io.RawIOBase):
    def __init__(self, source: Readable, digest: str, size: int, fault: Callable[[str], errors.MillraceError]) -> None:
        self._source, self._digest, self._size, self._fault = source, digest, size, fault
        self._hash, self._position, self._is_verified = hashlib.sha256(), 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._source.read(len(buffer))
        self._hash.update(chunk)
        self._position += len(chunk)
        # At the known size, not only at the end of file: a caller who asks for exactly that much is protected too.
        if not self._is_verified and (not chunk or self._position >= self._size):
            self._verify()
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _verify(self) -> None:
        found = self._hash.hexdigest()
        if found != self._digest or self._position != self._size:
            raise self._fault(found)
        self._is_verified = True


def verified(
    source: Readable, digest: str, *, size: int, fault: Callable[[str], errors.MillraceError] | None = None
) -> BinaryIO:
    """Wrap a source so that its last bytes are handed out only if all of them have the digest.

    Args:
        source: Where the bytes come from; not closed here.
        digest: SHA-256 in hexadecimal.
        size: Bytes expected in all.
        fault: Makes the error from the digest found; by default Corrupt.
    """
    raw = _VerifiedRaw(source, digest, size, fault or (lambda found: corrupt(digest, found)))
    return cast(BinaryIO, io.BufferedReader(raw, CHUNK_BYTES))


def corrupt(digest: str, found: str) -> errors.Corrupt:
    return errors.Corrupt(
        f"Blob {digest[:12]} holds other bytes: their digest is {found[:12]}.",
        remedy="Store its content again: writing it anew replaces the bad bytes.",
        digest=digest,
    )


def chunks(source: Readable) -> Iterator[bytes]:
    """Read to the end, a bounded piece at a time."""
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def hash_stream(source: Readable) -> tuple[str, int]:
    """Read to the end; return (digest, size in bytes)."""
    sha, size = hashlib.sha256(), 0
    for chunk in chunks(source):
        sha.update(chunk)
        size += len(chunk)
    return sha.hexdigest(), size


def too_large(digest: str, size: int, max_bytes: int) -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        f"Blob {digest[:12]} has {size:,} bytes; at most {max_bytes:,} are read into memory.",
        remedy="Fetch it into a file instead.",
        digest=digest,
    )


def missing(digest: str) -> errors.NotFound:
    return errors.NotFound(
        f"Blob {digest[:12]} is not in the store.",
        remedy="Check the tenant and MILLRACE_STORE_URL; if it was removed, run its producer again.",
        digest=digest,
    )
