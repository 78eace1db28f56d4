"""Reading a source's files as raw record batches: which files there are, how they are cut into parts, Parquet itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors
from millrace_cleaning.read_csv import read_csv
from millrace_cleaning.read_jsonl import read_jsonl
from millrace_cleaning.settings import CleanConfig

ROWS_PER_BATCH = 8192
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source that one task reads: a file, or some row groups of a Parquet file.

    Attributes:
        path: The file's path in the source's manifest.
        groups: First row group and the one past the last; None for the whole file.
    """

    path: str
    groups: tuple[int, int] | None = None


def format_of(path: str) -> str:
    """`csv`, `jsonl` or `parquet`; empty for what Millrace does not read."""
    return FORMATS.get(PurePosixPath(path).suffix.lower(), "")


def data_files(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (files to read, files left out because they are no data), both sorted.

    Raises:
        InvalidData: Nothing is left to read.
    """
    visible = [p for p in sorted(paths) if not any(part.startswith((".", "_")) for part in PurePosixPath(p).parts)]
    readable = [p for p in visible if format_of(p)]
    if not readable:
        found = ", ".join(visible[:3]) or "no file"
        raise errors.InvalidData(
            f"The source holds no data file: found {found}.", remedy=f"Give files that end in {', '.join(FORMATS)}."
        )
    return readable, [p for p in visible if not format_of(p)]


def parts_of(local: Path, path: str, *, bytes_per_part: int) -> list[Part]:
    """Cut one file into parts. CSV and JSONL stay whole: a line's number would be lost in the middle of a file."""
    size = local.stat().st_size
    if format_of(path) != "parquet" or size <= bytes_per_part:
        return [Part(path)]
    num_groups = _open_parquet(local, path).metadata.num_row_groups
    step = max(1, round(num_groups * bytes_per_part / size))
    return [Part(path, (i, min(i + step, num_groups))) for i in range(0, num_groups, step)]


def read_part(local: Path, part: Part, *, config: CleanConfig) -> Iterator[pa.RecordBatch]:
    """Yield raw record batches in order; their columns have whatever type the file says.

    Raises:
        InvalidData: The file cannot be read; the message names the file, and the line where there is one.
    """
    kind = format_of(part.path)
    if kind == "csv":
        yield from read_csv(local, part.path, config=config)
    elif kind == "jsonl":
        yield from read_jsonl(local, part.path, encoding=config.encoding, rows_per_batch=ROWS_PER_BATCH)
    else:
        yield from _read_parquet(local, part)


def _read_parquet(local: Path, part: Part) -> Iterator[pa.RecordBatch]:
    file = _open_parquet(local, part.path)
    groups = range(file.metadata.num_row_groups) if part.groups is None else range(*part.groups)
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
        raise errors.InvalidData(
            f"{path}: the column name {twice!r} stands twice.", remedy="Rename one of them.", field=twice
        )
    return file


def _unreadable(path: str, error: Exception) -> errors.InvalidData:
    return errors.InvalidData(
        f"{path} is not a whole Parquet file: {str(error).splitlines()[0][:200]}",
        remedy="Write it again; it may be truncated, or another format under this name.",
    )
