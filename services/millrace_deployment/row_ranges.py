"""Cutting rows that lie in many Parquet files into ranges, and reading one range without the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors


@dataclass(frozen=True, slots=True)
class RowFile:
    """A stored Parquet file.

    Attributes:
        path: Its name, for messages.
        blob: Its digest.
    """

    path: str
    blob: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Some rows of one file.

    Attributes:
        start, stop: First row and the one past the last, counted in the file.
        ordinal: The first row's number in the whole.
    """

    path: str
    blob: str
    start: int
    stop: int
    ordinal: int

    def to_task(self) -> dict[str, Any]:
        return asdict(self)


def cut(files: Sequence[RowFile], *, num_shards: int, rows_per_shard: int) -> list[list[Segment]]:
    """Cut the rows, in order, into shards whose sizes differ by one row at most.

    Args:
        num_shards: At least so many, unless there are fewer rows.
        rows_per_shard: At most so many rows in each.

    Returns:
        The segments of each shard; none is empty.
    """
    total = sum(file.num_rows for file in files)
    count = min(max(num_shards, -(-total // rows_per_shard)), total)
    bounds = [total * i // count for i in range(count + 1)] if count else []
    return [_segments(files, begin, end) for begin, end in pairwise(bounds)]


def _segments(files: Sequence[RowFile], begin: int, end: int) -> list[Segment]:
    found, ordinal = [], 0
    for file in files:
        start, stop = max(begin - ordinal, 0), min(end - ordinal, file.num_rows)
        if start < stop:
            found.append(Segment(file.path, file.blob, start, stop, ordinal + start))
        ordinal += file.num_rows
    return found


def open_parquet(local: Path, path: str) -> pq.ParquetFile:
    """Open a file. Raises InvalidData if it is not a whole Parquet file."""
    try:
        return pq.ParquetFile(local)
    except (pa.ArrowException, OSError) as error:
        raise errors.InvalidData(
            f"{path} is not a whole Parquet file: {str(error).splitlines()[0][:200]}",
            remedy="Write it again; it may be truncated, or another format under this name.",
        ) from error


def read_segment(
    local: Path, segment: Segment, *, columns: Sequence[str], rows_per_batch: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (ordinal of the first row, batch) in order; only row groups that the segment touches are read."""
    file = open_parquet(local, segment.path)
    metadata = file.metadata
    groups: list[int] = []
    first = position = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if position < segment.stop and position + size > segment.start:
            if not groups:
                first = position
            groups.append(group)
        position += size
    position = first
    for batch in file.iter_batches(rows_per_batch, row_groups=groups, columns=list(columns), use_threads=False):
        start, stop = max(segment.start - position, 0), min(segment.stop - position, batch.num_rows)
        if start < stop:
            yield segment.ordinal + position + start - segment.start, batch.slice(start, stop - start)
        position += batch.num_rows
