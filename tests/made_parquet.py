"""Parquet files written field by field, so that headers and footers may say what they like: one column `a` of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

UNPACKED, ZSTD = 0, 6
PLAIN, DELTA_LENGTH = 0, 6


@dataclass(frozen=True)
class MadePage:
    """A page as its header tells of it; behind its content a hole follows, up to `packed` bytes.

    Attributes:
        size, packed: In bytes, as the header says.
    """

    content: bytes
    size: int
    packed: int
    num_values: int
    encoding: int = PLAIN


def texts(*values: str) -> MadePage:
    """An honest page, not packed."""
    content = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
    return MadePage(content, len(content), len(content), len(values))


def sparse_text(size: int) -> MadePage:
    """One value of so many NUL characters, of which the disk holds nothing."""
    return MadePage(size.to_bytes(4, "little"), size + 4, size + 4, 1)


def packed_texts(size: int, *, num_values: int) -> MadePage:
    """Values of so many NUL characters each, packed by zstd."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        for _ in range(num_values):
            out.write(size.to_bytes(4, "little") + bytes(size))
    content = sink.getvalue().to_pybytes()
    return MadePage(content, num_values * (size + 4), len(content), num_values)


def write_parquet(
    path: Path, groups: Sequence[Sequence[MadePage]], *, codec: int = UNPACKED, claimed: int | None = None
) -> None:
    """Write a file of row groups of pages.

    Args:
        claimed: What the footer says that a row group unpacks to, in bytes; default: the truth.
    """
    with path.open("wb") as out:
        out.write(b"PAR1")
        made = [_write_group(out, pages, codec, claimed) for pages in groups]
        num_rows = sum(page.num_values for pages in groups for page in pages)
        schema = [
            _struct(_text(4, "root"), _int(5, 1)),
            _struct(_int(1, 6), _int(3, 0), _text(4, "a"), _int(6, 0)),  # byte array, required, UTF-8
        ]
        footer = _struct(_int(1, 2), _list(2, 12, schema), _int(3, num_rows, kind=6), _list(4, 12, made))
        out.write(footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _write_group(out: BinaryIO, pages: Sequence[MadePage], codec: int, claimed: int | None) -> bytes:
    """Write pages; return what the footer says of them."""
    start = out.tell()
    for page in pages:
        about = _struct(_int(1, page.num_values), _int(2, page.encoding), _int(3, 3), _int(4, 3))
        out.write(_struct(_int(1, 0), _int(2, page.size), _int(3, page.packed), (5, 12, about)))
        out.write(page.content)
        out.seek(page.packed - len(page.content), 1)
    packed, num_rows = out.tell() - start, sum(page.num_values for page in pages)
    size = sum(page.size for page in pages) if claimed is None else claimed
    meta = _struct(
        _int(1, 6), _list(2, 5, [_varint(0)]), _list(3, 8, [b"\x01a"]), _int(4, codec), _int(5, num_rows, kind=6),
        _int(6, size, kind=6), _int(7, packed, kind=6), _int(9, start, kind=6),
    )  # fmt: skip
    chunk = _struct(_int(2, start, kind=6), (3, 12, meta))
    return _struct(_list(1, 12, [chunk]), _int(2, size, kind=6), _int(3, num_rows, kind=6))


# Thrift's compact form. A field is (number, type, bytes).
_Field = tuple[int, int, bytes]


def _struct(*fields: _Field) -> bytes:
    made, last = b"", 0
    for number, kind, content in fields:
        made += bytes([(number - last) << 4 | kind]) + content
        last = number
    return made + b"\0"


def _int(number: int, value: int, *, kind: int = 5) -> _Field:
    return number, kind, _varint(2 * value)


def _text(number: int, value: str) -> _Field:
    return number, 8, _varint(len(value)) + value.encode()


def _list(number: int, kind: int, items: Sequence[bytes]) -> _Field:
    assert len(items) < 15
    return number, 9, bytes([len(items) << 4 | kind]) + b"".join(items)


def _varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])
