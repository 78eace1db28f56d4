"""What reading a row group of Parquet takes, measured on its pages before any of them is unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import pyarrow.parquet as pq

from millrace_cleaning.read.pages import DELTA_BYTE_ARRAY, DELTA_LENGTHS, Page, read_pages
from millrace_cleaning.read.rows import BYTES_PER_BATCH, ROWS_PER_BATCH

_WORST_BYTES = 256 * 2**20
_LEVEL_BYTES = 4
"""Of each item of a list, and of each length: 16 bits for where it stands, or 32 for how long it is."""


@dataclass(frozen=True, slots=True)
class GroupSize:
    """A row group's size.

    Attributes:
        packed_bytes, unpacked_bytes: Of all its pages.
        page_bytes: Of the largest page, unpacked: each is in memory as a whole.
        pages_bytes: Of the largest page and dictionary of every column, which are in memory together.
        rows_at_once: As many rows take 32 MiB at most as they are packed, and 256 MiB at the worst that their encoding allows.
    """

    packed_bytes: int
    unpacked_bytes: int
    page_bytes: int
    pages_bytes: int
    rows_at_once: int


@dataclass(frozen=True, slots=True)
class _ColumnSize:
    unpacked_bytes: int
    page_bytes: int
    dictionary_bytes: int
    bytes_per_row: float
    worst_bytes_per_row: int


def measure_group(parquet: pq.ParquetFile, index: int, stream: BinaryIO) -> GroupSize:
    """Measure a row group by its pages' headers.

    Raises:
        ValueError: A header is damaged, or a page goes beyond its column.
    """
    group = parquet.metadata.row_group(index)
    columns = [
        _measure(group.column(i), parquet.schema.column(i), stream, num_rows=max(1, group.num_rows))
        for i in range(group.num_columns)
    ]
    usual, worst = sum(c.bytes_per_row for c in columns), sum(c.worst_bytes_per_row for c in columns)
    return GroupSize(
        packed_bytes=sum(group.column(i).total_compressed_size for i in range(group.num_columns)),
        unpacked_bytes=sum(c.unpacked_bytes for c in columns),
        page_bytes=max((max(c.page_bytes, c.dictionary_bytes) for c in columns), default=0),
        pages_bytes=sum(c.page_bytes + c.dictionary_bytes for c in columns),
        rows_at_once=int(max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH / max(usual, 1), _WORST_BYTES // max(worst, 1)))),
    )


def first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    """Where a column's pages begin: old writers do not say where the dictionary is, or say 0."""
    start: int = chunk.data_page_offset
    at = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    return at if at is not None and 0 < at < start else start


def _measure(chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema, stream: BinaryIO, *, num_rows: int) -> _ColumnSize:
    pages = list(read_pages(stream, first_byte(chunk), chunk.total_compressed_size))
    data = [page for page in pages if not page.is_dictionary]
    is_repeated = column.max_repetition_level > 0
    sizes = [_in_memory(page, is_repeated=is_repeated) for page in data]
    dictionary = max((page.size_bytes for page in pages if page.is_dictionary), default=0)
    if is_repeated:  # how many rows a page has is not known
        each = sum(sizes) / num_rows
    else:  # rows may be larger in one page than in another
        each = max((page.size_bytes / page.num_values for page in data if page.num_values), default=0)
    page_bytes = max(sizes, default=0)
    return _ColumnSize(
        sum(sizes) + dictionary, page_bytes, dictionary, each, _worst(column, data, page_bytes, dictionary)
    )


def _in_memory(page: Page, *, is_repeated: bool) -> int:
    """A page unpacked; a few bytes may stand for any number of lengths, or of empty items."""
    is_counted = is_repeated or page.encoding in DELTA_LENGTHS
    return max(page.size_bytes, _LEVEL_BYTES * page.num_values) if is_counted else page.size_bytes


def _worst(column: pq.ColumnSchema, data: list[Page], page_bytes: int, dictionary_bytes: int) -> int:
    """The largest that a value can be: each may be the dictionary's only entry, or repeat a page's longest."""
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return int(column.length)
    if column.physical_type != "BYTE_ARRAY":
        return 0
    return max(dictionary_bytes, page_bytes if any(page.encoding == DELTA_BYTE_ARRAY for page in data) else 0)
