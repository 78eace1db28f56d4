"""Reading Parquet: a footer is believed only where the file bears it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from millrace_cleaning.read.csv import check_names
from millrace_cleaning.read.groups import GroupSize, first_byte, measure_group
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import coalesced, in_slices
from millrace_cleaning.read.stream import BOMB_FLOOR_BYTES
from millrace_cleaning.read_settings import ReadConfig

_PAGE_BUFFER_BYTES = 2**20  # a column's pages are read as they are needed, not the whole chunk
_THRIFT_BYTES = 256 * 2**20
_FOOTER_BYTES = 64 * 2**20
_MAX_ITEMS = 2**18
"""Of a list in a footer, where ten thousand columns are not asked for: Arrow makes room for as many as it says."""
_PAGE_BYTES = 256 * 2**20
"""Usual pages have one megabyte; some writers make one page of a column, so it may be much more."""


def read_parquet(
    file: Path | BinaryIO, path: str, *, size_bytes: int, groups: tuple[int, int] | None, config: ReadConfig,
    rejects: Rejects,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield batches of a file, or of its row groups from the first to the one past the last.

    Raises:
        BadFile: The file is truncated, damaged, or its footer says what cannot be.
        InvalidData: A row is larger than is allowed.
    """
    parquet = open_parquet(file, path, size_bytes=size_bytes, config=config)
    first, last = groups or (0, parquet.metadata.num_row_groups)
    position = 0
    for group in range(first, last):
        num_rows = parquet.metadata.row_group(group).num_rows
        size = _measured(parquet, group, file, path)
        if _is_too_large(size, num_rows, path, position, config, rejects):
            position += num_rows
            continue
        try:
            for batch in coalesced(parquet.iter_batches(size.rows_at_once, row_groups=[group], use_threads=False)):
                for piece in in_slices(batch):
                    kept = _checked(piece, path, position, config, rejects)
                    position += piece.num_rows
                    if kept.num_rows:
                        yield kept
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise _unreadable(path, error) from error


def open_parquet(file: Path | BinaryIO, path: str, *, size_bytes: int, config: ReadConfig) -> pq.ParquetFile:
    """Open a file and check its footer against its size.

    Raises:
        BadFile: It is not a whole Parquet file, or has too many columns or one twice.
    """
    _check_length(file, path, size_bytes)
    try:
        parquet = pq.ParquetFile(
            file, buffer_size=_PAGE_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True,
            thrift_string_size_limit=_THRIFT_BYTES,
            thrift_container_size_limit=max(_MAX_ITEMS, 4 * config.max_columns),
        )  # fmt: skip
        names = parquet.schema_arrow.names
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if len(names) > config.max_columns:
        raise BadFile(
            f"{path} has {len(names)} columns, more than {config.max_columns}.",
            reason="columns",
            remedy="If they are meant, raise `max_columns`.",
        )
    check_names(names, path)
    _check_footer(parquet.metadata, path, size_bytes)
    return parquet


def _check_length(file: Path | BinaryIO, path: str, size_bytes: int) -> None:
    """Refuse a footer of which Arrow would make gigabytes: a column of a row group is ten times as large in memory."""
    if size_bytes < 8:
        return
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        stream.seek(size_bytes - 8)
        length = int.from_bytes(stream.read(4), "little")
    if _FOOTER_BYTES < length <= size_bytes:
        raise BadFile(
            f"{path} has a footer of {length} bytes, more than {_FOOTER_BYTES}.",
            reason="footer",
            remedy="Write it again with larger row groups, or as several files.",
        )


def _check_footer(metadata: pq.FileMetaData, path: str, size_bytes: int) -> None:
    total = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        total += group.num_rows
        for j in range(group.num_columns):
            chunk = group.column(j)
            start = first_byte(chunk)
            if start < 0 or not 0 <= chunk.total_compressed_size <= size_bytes - start:
                raise _lying(path, f"column {chunk.path_in_schema!r} of row group {i} lies outside of the file")
            if chunk.total_uncompressed_size < 0 or group.num_rows < 0 or chunk.num_values < 0:
                raise _lying(path, f"sizes of row group {i} are negative")
    if total != metadata.num_rows:
        raise _lying(path, f"it counts {metadata.num_rows} rows, its row groups {total}")


def _measured(parquet: pq.ParquetFile, group: int, file: Path | BinaryIO, path: str) -> GroupSize:
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            return measure_group(parquet, group, stream)
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _is_too_large(
    size: GroupSize, num_rows: int, path: str, position: int, config: ReadConfig, rejects: Rejects
) -> bool:
    """Whether a row group is beyond the limits; its rows are rejected before any of it is unpacked."""
    if size.unpacked_bytes > max(BOMB_FLOOR_BYTES, config.max_archive_ratio * size.packed_bytes):
        raise BadFile(
            f"{path}: {size.packed_bytes} bytes would unpack to {size.unpacked_bytes}: it is taken for a decompression bomb.",
            reason="bomb",
            remedy="If it is none, raise `max_archive_ratio`.",
        )
    row_bytes, page_limit = size.unpacked_bytes // max(num_rows, 1), max(_PAGE_BYTES, 4 * config.max_row_bytes)
    if row_bytes > config.max_row_bytes:
        fault = f"its row group has {row_bytes} bytes a row, more than {config.max_row_bytes}"
    elif size.page_bytes > page_limit:
        fault = (
            f"its row group has a page of {size.page_bytes} bytes, which would be read as a whole; {page_limit} may be"
        )
    elif size.pages_bytes > 4 * page_limit:
        fault = f"its row group has pages of {size.pages_bytes} bytes, read together; {4 * page_limit} may be"
    else:
        return False
    for i in range(num_rows):
        row = rejects.first_row + position + i + 1
        rejects.row(
            path, f"{path}, row {row}: {fault}.", reason="too_long", position=position + i,
            remedy="If it is meant, raise `max_row_bytes`, or write smaller row groups and pages.", size_bytes=row_bytes,
        )  # fmt: skip
    return True


def _checked(batch: pa.RecordBatch, path: str, position: int, config: ReadConfig, rejects: Rejects) -> pa.RecordBatch:
    """The batch without rows that are too large, or whose text is none: Arrow takes a file's word for both."""
    is_small, is_valid = batch.nbytes <= config.max_row_bytes, _is_valid(batch)
    if is_small and is_valid:
        return batch
    keep = []
    for i in range(batch.num_rows):
        one = batch.slice(i, 1)
        fault = None
        if one.nbytes > config.max_row_bytes:
            limit = f"a row of {one.nbytes} bytes is longer than {config.max_row_bytes}"
            fault = ("too_long", limit, "If it is meant, raise `max_row_bytes`.")
        elif not is_valid and not _is_valid(one):
            fault = ("encoding", "a text is not UTF-8, or a value out of bounds", "Write the file again.")
        keep.append(fault is None)
        if fault is not None:
            row = rejects.first_row + position + i + 1
            rejects.row(
                path, f"{path}, row {row}: {fault[1]}.", reason=fault[0], position=position + i, remedy=fault[2],
                size_bytes=one.nbytes,
            )  # fmt: skip
    return batch.filter(pa.array(keep, pa.bool_()))


def _is_valid(batch: pa.RecordBatch) -> bool:
    try:
        batch.validate(full=True)
    except (pa.ArrowException, ValueError):
        return False
    return True


def _lying(path: str, what: str) -> BadFile:
    return BadFile(
        f"{path} is not a whole Parquet file: its footer is wrong, as {what}.",
        reason="footer",
        remedy="Write it again with a current Parquet library.",
    )


def _unreadable(path: str, error: BaseException) -> BadFile:
    said = str(error).splitlines() or ["out of memory"]
    return BadFile(
        f"{path} is not a whole Parquet file: {said[0][:200]}",
        reason="unreadable",
        remedy="Write it again; it may be truncated, or another format under this name.",
    )
