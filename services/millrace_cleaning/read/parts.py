"""Cutting a source into parts that tasks read apart, and reading one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from millrace_cleaning.read.csv import read_csv
from millrace_cleaning.read.files import Files, data_files, format_of
from millrace_cleaning.read.jsonl import read_jsonl
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read_settings import ReadConfig

ROWS_PER_BATCH = 8192


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source that one task reads.

    Attributes:
        path: The file's path in the source's manifest; of several small media files, the first one's.
        span: First and one past the last: row groups of Parquet, bytes of CSV, JSONL and text, positions among the
            source's data files for media. None for the whole file.
    """

    path: str
    span: tuple[int, int] | None = None


def parts_of(files: Files, *, config: ReadConfig, bytes_per_part: int) -> list[Part]:
    """Cut all data files into parts of about so many bytes, in the order of rows. A broken file is one part: reading
    it will say what is wrong."""
    paths = data_files(list(files.sizes), formats=config.formats)[0]
    return [part for path in paths for part in _cut(files, path, bytes_per_part=bytes_per_part)]


def _cut(files: Files, path: str, *, bytes_per_part: int) -> list[Part]:
    size = files.sizes[path]
    if format_of(path) != "parquet" or size <= bytes_per_part:
        return [Part(path)]
    num_groups = _open_parquet(files.fetch(path), path).metadata.num_row_groups
    step = max(1, round(num_groups * bytes_per_part / size))
    return [Part(path, (i, min(i + step, num_groups))) for i in range(0, num_groups, step)]


def read_part(files: Files, part: Part, *, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Yield raw record batches in order; their columns have whatever type the file says.

    Raises:
        InvalidData: The file, or a row, cannot be read, and the policy is to fail; the message names the file, and the
            line where there is one.
    """
    try:
        yield from _read(files.fetch(part.path), part, config)
    except BadFile as fault:
        rejects.file(part.path, fault, size_bytes=files.sizes.get(part.path))


def _read(local: Path, part: Part, config: ReadConfig) -> Iterator[pa.RecordBatch]:
    kind = format_of(part.path)
    if kind == "csv":
        yield from read_csv(local, part.path, config=config)
    elif kind == "jsonl":
        yield from read_jsonl(local, part.path, encoding=config.encoding, rows_per_batch=ROWS_PER_BATCH)
    else:
        yield from _read_parquet(local, part)


def _read_parquet(local: Path, part: Part) -> Iterator[pa.RecordBatch]:
    file = _open_parquet(local, part.path)
    groups = range(file.metadata.num_row_groups) if part.span is None else range(*part.span)
    try:
        yield from file.iter_batches(batch_size=ROWS_PER_BATCH, row_groups=list(groups), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(part.path, error) from error


def _open_parquet(local: Path, path: str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(local)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    names = file.schema_arrow.names
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise BadFile(
            f"{path}: the column name {twice!r} stands twice.",
            reason="columns",
            remedy="Rename one of them.",
            field=twice,
        )
    return file


def _unreadable(path: str, error: Exception) -> BadFile:
    return BadFile(
        f"{path} is not a whole Parquet file: {str(error).splitlines()[0][:200]}",
        reason="unreadable",
        remedy="Write it again; it may be truncated, or another format under this name.",
    )
