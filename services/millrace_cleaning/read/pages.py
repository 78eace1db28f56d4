"""The pages of a Parquet column, by their own headers: a page that gives more than its header says is refused by Arrow, which
allocates what a header says and does not ask the footer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

DELTA_LENGTHS = frozenset({6, 7})
"""Encodings of texts whose lengths are unpacked for a whole page (parquet.thrift, Encoding)."""
DELTA_BYTE_ARRAY = 7
"""An encoding in which each text may repeat the whole of the one before."""

_DICTIONARY = 2
_MAX_DEPTH = 4  # of the structs in a header
_SLACK_BYTES = 100  # old writers left the dictionary page's header out of a column's size (PARQUET-816)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page's header says.

    Attributes:
        size_bytes: Unpacked.
        num_values: Nulls and the items of lists included; of a dictionary, its entries.
        encoding: Its number in parquet.thrift.
    """

    size_bytes: int
    num_values: int
    encoding: int
    is_dictionary: bool


def read_pages(stream: BinaryIO, start: int, packed_bytes: int) -> Iterator[Page]:
    """Yield the pages of a column of one row group; only their headers are read.

    Raises:
        ValueError: A header is damaged, or a page goes beyond its column.
    """
    at, end = start, start + packed_bytes
    while at < end:
        stream.seek(at)
        header = _struct(stream)
        sizes = [header.get(field) for field in (1, 2, 3)]
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError("a page's header is damaged")
        kind, unpacked, packed = (int(size) for size in sizes if size is not None)
        at = stream.tell() + packed
        if at > end + _SLACK_BYTES:
            raise ValueError("a page goes beyond its column")
        about: dict[int, Any] = next((header[field] for field in (5, 7, 8) if isinstance(header.get(field), dict)), {})
        encoding = about.get(4 if 8 in header else 2, 0)
        yield Page(unpacked, max(0, int(about.get(1, 0))), int(encoding), is_dictionary=kind == _DICTIONARY)


def _struct(stream: BinaryIO, depth: int = 0) -> dict[int, Any]:
    """A struct in Thrift's compact form, by field: integers and structs; what else there is is passed over."""
    if depth > _MAX_DEPTH:
        raise ValueError("a page's header is damaged")
    found: dict[int, Any] = {}
    field = 0
    while mark := _byte(stream):
        field = field + (mark >> 4) if mark >> 4 else _integer(stream)
        kind = mark & 15
        if kind in (1, 2):
            found[field] = kind == 1
        elif kind == 3:
            _byte(stream)
        elif kind in (4, 5, 6):
            found[field] = _integer(stream)
        elif kind == 7:
            stream.seek(8, 1)
        elif kind == 8:
            stream.seek(_varint(stream), 1)
        elif kind == 12:
            found[field] = _struct(stream, depth + 1)
        else:  # no field of a page's header is a list or a map
            raise ValueError("a page's header is damaged")
    return found


def _byte(stream: BinaryIO) -> int:
    read = stream.read(1)
    if not read:
        raise ValueError("a page's header is cut off")
    return read[0]


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while shift < 70:
        byte = _byte(stream)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
    raise ValueError("a page's header is damaged")


def _integer(stream: BinaryIO) -> int:
    value = _varint(stream)
    return (value >> 1) ^ -(value & 1)  # zigzag
