"""A file's bytes as a stream: a range of them, unpacked, with an end to what a bomb may give; and what a file truly is."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from millrace_cleaning.read.files import compression_of, format_of
from millrace_cleaning.read.rejects import BadFile
from millrace_cleaning.read_settings import ReadConfig

BUFFER_BYTES = 2**20
BOMB_FLOOR_BYTES = 64 * 2**20  # small files of blanks shrink a thousandfold; they harm nobody

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "parquet", "Parquet"), (b"PK\x03\x04", "archive", "ZIP"), (b"\x1f\x8b", "gzip", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"), (b"\x89PNG\r\n", "image", "PNG"), (b"\xff\xd8\xff", "image", "JPEG"),
    (b"GIF87a", "image", "GIF"), (b"GIF89a", "image", "GIF"), (b"fLaC", "audio", "FLAC"), (b"OggS\0", "audio", "Ogg"),
    (b"\x7fELF", "program", "ELF"), (b"%PDF-", "document", "PDF"),
)  # fmt: skip


_FAILURES = (
    OSError, EOFError, ValueError, RuntimeError, pa.ArrowException, zlib.error, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip
"""What reading damaged bytes raises, by who unpacks them."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Bounded(io.RawIOBase):
    """Reads another stream: at most `limit` bytes, and every failure as a BadFile."""

    def __init__(self, inner: _Readable, path: str, *, limit: int | None = None, guard: Callable[[int], None]) -> None:
        self._inner, self._path, self._left, self._guard = inner, path, limit, guard
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # a writable buffer, as RawIOBase says
        wanted = len(view) if self._left is None else min(len(view), self._left)
        if not wanted:
            return 0
        try:
            data = self._inner.read(wanted)
        except _FAILURES as error:
            raise BadFile(
                f"{self._path} breaks off or is damaged: {(str(error).splitlines() or [type(error).__name__])[0][:160]}",
                reason="truncated",
                remedy="Fetch or write it again.",
            ) from error
        view[: len(data)] = data
        self._given += len(data)
        self._guard(self._given)
        if self._left is not None:
            self._left -= len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def bounded(inner: _Readable, path: str, *, packed_bytes: int, config: ReadConfig) -> BinaryIO:
    """A stream of unpacked bytes that ends in a BadFile when they are far more than what they were packed in."""

    def guard(given: int) -> None:
        if given > BOMB_FLOOR_BYTES and given > config.max_archive_ratio * packed_bytes:
            raise BadFile(
                f"{path} holds {packed_bytes} bytes and gives more than {given}: it is taken for a decompression bomb.",
                reason="bomb",
                remedy="If it is none, raise `max_archive_ratio`.",
            )
        if given > config.max_archive_bytes:
            raise BadFile(
                f"{path} gives more than {config.max_archive_bytes} bytes.",
                reason="bomb",
                remedy="If it may, raise `max_archive_bytes`.",
            )

    return io.BufferedReader(_Bounded(inner, path, guard=guard), BUFFER_BYTES)


def open_bytes(local: Path, path: str, *, config: ReadConfig, span: tuple[int, int] | None = None) -> BinaryIO:
    """Open a file, unpacked where its name says that it is packed.

    Args:
        span: First byte and one past the last; of a file that is not packed.

    Raises:
        BadFile: The file is another thing than its name says. Later reads raise it if it is damaged or a bomb.
    """
    packing = compression_of(path)
    _check_magic(local, path, packing)
    if packing:
        try:
            unpacked = pa.CompressedInputStream(pa.OSFile(str(local)), packing)
        except (pa.ArrowException, OSError) as error:
            raise BadFile(f"{path} is no {packing} file.", reason="format", remedy="Correct its name.") from error
        return bounded(unpacked, path, packed_bytes=local.stat().st_size, config=config)
    stream = local.open("rb", buffering=0)
    start, end = span or (0, local.stat().st_size)
    stream.seek(start)
    return io.BufferedReader(_Bounded(stream, path, limit=end - start, guard=_allow), BUFFER_BYTES)


def read_up_to(stream: BinaryIO, size: int) -> bytes:
    """Exactly size bytes, unless the stream ends."""
    blocks, left = [], size
    while left and (block := stream.read(min(left, BUFFER_BYTES))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


def _allow(given: int) -> None:
    """A file that is not packed gives what it holds."""


def _check_magic(local: Path, path: str, packing: str) -> None:
    with local.open("rb") as stream:
        head = stream.read(16)
    is_ = packing or format_of(path) or ""
    for magic, kind, name in _MAGIC:
        if head.startswith(magic) and kind != is_:
            raise BadFile(
                f"{path} is a {name} file, by its first bytes.",
                reason="format",
                remedy="Give it the suffix of what it is.",
            )
    if packing and not head.startswith(b"\x1f\x8b" if packing == "gzip" else b"\x28\xb5\x2f\xfd"):
        raise BadFile(f"{path} is no {packing} file, by its first bytes.", reason="format", remedy="Correct its name.")
