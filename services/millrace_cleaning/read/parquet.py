"""Reading Parquet: a footer is believed only where the file bears it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from millrace_cleaning.read.csv import check_names
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import BYTES_PER_BATCH, ROWS_PER_BATCH, coalesced, in_slices
from millrace_cleaning.read.stream import BOMB_FLOOR_BYTES
from millrace_cleaning.read_settings import ReadConfig

_PAGE_BUFFER_BYTES = 2**20  # a column's pages are read as they are needed, not the whole chunk
_THRIFT_BYTES = 256 * 2**20
_WORST_BYTES = 256 * 2**20


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
        if _is_too_large(parquet.metadata.row_group(group), path, position, config, rejects):
            position += parquet.metadata.row_group(group).num_rows
            continue
        num_rows = _rows_at_once(parquet.metadata.row_group(group), file)
        try:
            for batch in coalesced(parquet.iter_batches(num_rows, row_groups=[group], use_threads=False)):
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
    try:
        parquet = pq.ParquetFile(
            file, buffer_size=_PAGE_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True,
            thrift_string_size_limit=_THRIFT_BYTES, thrift_container_size_limit=2**24,
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


def _check_footer(metadata: pq.FileMetaData, path: str, size_bytes: int) -> None:
    total = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        total += group.num_rows
        for j in range(group.num_columns):
            chunk = group.column(j)
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            if start is None or start < 0 or not 0 <= chunk.total_compressed_size <= size_bytes - start:
                raise _lying(path, f"column {chunk.path_in_schema!r} of row group {i} lies outside of the file")
            if chunk.total_uncompressed_size < 0 or group.num_rows < 0 or chunk.num_values < 0:
                raise _lying(path, f"sizes of row group {i} are negative")
    if total != metadata.num_rows:
        raise _lying(path, f"it counts {metadata.num_rows} rows, its row groups {total}")


def _is_too_large(group: pq.RowGroupMetaData, path: str, position: int, config: ReadConfig, rejects: Rejects) -> bool:
    """Whether a row group's rows are beyond the limit on average; they are rejected before any of it is unpacked."""
    packed = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
    if group.total_byte_size > max(BOMB_FLOOR_BYTES, config.max_archive_ratio * packed):
        raise BadFile(
            f"{path}: {packed} bytes would unpack to {group.total_byte_size}: it is taken for a decompression bomb.",
            reason="bomb",
            remedy="If it is none, raise `max_archive_ratio`.",
        )
    row_bytes = group.total_byte_size // max(group.num_rows, 1)
    if row_bytes <= config.max_row_bytes:
        return False
    for i in range(group.num_rows):
        row = rejects.first_row + position + i + 1
        rejects.row(
            path, f"{path}, row {row}: its row group has {row_bytes} bytes a row, more than {config.max_row_bytes}.",
            reason="too_long", position=position + i, remedy="If it is meant, raise `max_row_bytes`.",
            size_bytes=row_bytes,
        )  # fmt: skip
    return True


def _rows_at_once(group: pq.RowGroupMetaData, file: Path | BinaryIO) -> int:
    """How many rows Arrow may unpack at once: by their average size, and by the worst that dictionaries allow, where
    every row may repeat one large value."""
    row_bytes = max(1, group.total_byte_size // max(group.num_rows, 1))
    chunks = [group.column(i) for i in range(group.num_columns)]
    texts = [c for c in chunks if c.physical_type == "BYTE_ARRAY" and c.has_dictionary_page]
    worst_bytes = max(1, sum(_dictionary_bytes(file, chunk.dictionary_page_offset) for chunk in texts))
    return int(max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH // row_bytes, _WORST_BYTES // worst_bytes)))


def _dictionary_bytes(file: Path | BinaryIO, offset: int) -> int:
    """What a dictionary page unpacks to, by its header: Thrift's compact form, whose first fields are 32-bit integers."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            stream.seek(offset)
            head = stream.read(32)
    else:
        file.seek(offset)
        head = file.read(32)
    numbers: list[int] = []
    at = 0
    while len(numbers) < 2 and at < len(head) and head[at] == 0x15:  # the next field, an i32: type, unpacked size
        number, shift, at = 0, 0, at + 1
        while at < len(head):
            number |= (head[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if head[at - 1] < 0x80:
                break
        numbers.append(number >> 1)  # zigzag, of what is not negative
    return numbers[1] if len(numbers) == 2 else 0


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
