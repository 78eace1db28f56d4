"""Any encoding as UTF-8. Bytes that are not of the encoding stay in the stream as bytes that are not UTF-8, so that
readers find them row by row."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import BinaryIO

from charset_normalizer import from_bytes

from millrace_cleaning.read.stream import BUFFER_BYTES, open_bytes
from millrace_cleaning.read_settings import ReadConfig

SAMPLE_BYTES = 2**20
_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SUPERSETS = ("cp1252", "iso8859-1", "ascii", "iso8859-15", "cp1250", "cp1251", "koi8-r")


class _Transcoded(io.RawIOBase):
    """UTF-8 of a stream in another encoding."""

    def __init__(self, inner: BinaryIO, encoding: str) -> None:
        self._inner = inner
        # Multi-byte decoders cannot carry stray bytes through; they replace them.
        wide = encoding.startswith(("utf-16", "utf-32"))
        self._decoder = codecs.getincrementaldecoder(encoding)("replace" if wide else "surrogateescape")
        self._ready = memoryview(b"")
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # a writable buffer, as RawIOBase says
        while not self._ready and not self._is_over:
            block = self._inner.read(BUFFER_BYTES)
            self._is_over = not block
            text = self._decoder.decode(block, final=self._is_over)
            self._ready = memoryview(text.encode("utf-8", "surrogateescape"))
        size = min(len(view), len(self._ready))
        view[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def open_text(local: Path, path: str, *, config: ReadConfig, span: tuple[int, int] | None = None) -> BinaryIO:
    """Open a text file as UTF-8 without a byte order mark; its newlines are as they were."""
    encoding = encoding_of(local, path, config=config)
    stream = open_bytes(local, path, config=config, span=span)
    return as_utf8(stream, encoding, is_start=span is None or span[0] == 0)


def as_utf8(stream: BinaryIO, encoding: str, *, is_start: bool = True) -> BinaryIO:
    """A stream of UTF-8 of one in another encoding."""
    if encoding == "utf-8-sig":
        if is_start:
            stream.read(len(codecs.BOM_UTF8))
        return stream
    return stream if encoding == "utf-8" else io.BufferedReader(_Transcoded(stream, encoding), BUFFER_BYTES)


def encoding_of(local: Path, path: str, *, config: ReadConfig) -> str:
    """The encoding of a file: `utf-8`, `utf-8-sig`, or another one's name."""
    with open_bytes(local, path, config=config) as stream:
        return detect(stream.read(SAMPLE_BYTES if config.encoding == "auto" else 4), asked=config.encoding)


def detect(sample: bytes, *, asked: str) -> str:
    """The encoding that a file's first bytes and its owner say: a mark wins, then what was asked, then a guess."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    if asked != "auto":
        name = codecs.lookup(asked).name
        return "utf-8" if name in ("utf-8", "utf-8-sig") else name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the sample's last character may be cut
    except UnicodeDecodeError:
        return _guess(sample)
    return "utf-8"


def is_ascii_based(encoding: str) -> bool:
    """Whether a byte 10 is always the end of a line, so that a file may be cut there."""
    return encoding in ("utf-8", "utf-8-sig", *_SUPERSETS)


def spoiled(row: bytes) -> bool:
    """Whether a row's bytes are not UTF-8."""
    try:
        row.decode()
    except UnicodeDecodeError:
        return True
    return False


def _guess(sample: bytes) -> str:
    # One byte that UTF-8 does not know among ten thousand that it does is damage in a UTF-8 file.
    lost = sample.decode("utf-8", "replace").count("\ufffd")
    if lost * 10 < sum(byte > 127 for byte in sample) / 4:
        return "utf-8"
    found = [codecs.lookup(match.encoding).name for match in from_bytes(sample[: 2**16])]
    # Western text fits several code pages alike; the most common of them is meant.
    return "cp1252" if not found or {"cp1252", "iso8859-1"} & set(found) else found[0]
