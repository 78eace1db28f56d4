"""Cutting a source into parts that tasks read apart, and reading one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from millrace_cleaning.read.archive import read_archive
from millrace_cleaning.read.csv import Header, read_csv, read_header
from millrace_cleaning.read.encoding import encoding_of, is_ascii_based, open_text
from millrace_cleaning.read.files import Files, compression_of, data_files, format_of
from millrace_cleaning.read.json import read_json
from millrace_cleaning.read.jsonl import read_jsonl
from millrace_cleaning.read.lines import count_lines, cuts, skip_line, skip_paragraph
from millrace_cleaning.read.media import folders_differ, read_files
from millrace_cleaning.read.parquet import open_parquet, read_parquet
from millrace_cleaning.read.records import cut_records
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.text import read_text
from millrace_cleaning.read_settings import ReadConfig


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source that one task reads.

    Attributes:
        path: The file's path in the source's manifest; of several files that are one row each, the first one's.
        span: First and one past the last: row groups of Parquet; bytes of CSV, JSONL and text; positions among the
            source's data files for files that are one row each. None for the whole file.
    """

    path: str
    span: tuple[int, int] | None = None


def parts_of(files: Files, *, config: ReadConfig, bytes_per_part: int) -> list[Part]:
    """Cut all data files into parts of about so many bytes, in the order of rows. What is compressed stays whole. A
    broken file is one part: reading it will say what is wrong.

    Raises:
        InvalidData: There is no data file.
    """
    paths = data_files(list(files.sizes), formats=config.formats)[0]
    parts: list[Part] = []
    start = 0
    while start < len(paths):
        end = _end_of_group(files, paths, start, config, bytes_per_part)
        parts += (
            [Part(paths[start], (start, end))] if end > start else _cut(files, paths[start], config, bytes_per_part)
        )
        start = max(end, start + 1)
    return parts


def read_part(files: Files, part: Part, *, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Yield raw record batches in order; their columns have whatever type the file says.

    Raises:
        InvalidData: The file, or a row, cannot be read, and the policy is to fail; the message names the file, and the
            line where there is one.
    """
    try:
        yield from _read(files, part, config, rejects)
    except BadFile as fault:
        rejects.file(part.path, fault, size_bytes=files.sizes.get(part.path))


def files_of_rows(files: Files, part: Part, *, config: ReadConfig) -> list[str] | None:
    """Of a part whose files are one row each, those files in order; None for rows of one file."""
    if not _is_one_row(part.path, config):
        return None
    return (
        [part.path]
        if part.span is None
        else data_files(list(files.sizes), formats=config.formats)[0][slice(*part.span)]
    )


def _is_one_row(path: str, config: ReadConfig) -> bool:
    kind = format_of(path)
    return kind in ("image", "audio") or (kind == "text" and config.text_unit == "file")


def _end_of_group(files: Files, paths: list[str], start: int, config: ReadConfig, bytes_per_part: int) -> int:
    """One past the last of the files of one kind, a row each, that are read together; start if its file is no such."""
    if not _is_one_row(paths[start], config):
        return start
    end, size = start + 1, files.sizes[paths[start]]
    while end < len(paths) and size < bytes_per_part and format_of(paths[end]) == format_of(paths[start]):
        size += files.sizes[paths[end]]
        end += 1
    return end


def _cut(files: Files, path: str, config: ReadConfig, bytes_per_part: int) -> list[Part]:
    size, kind = files.sizes[path], format_of(path)
    if size <= bytes_per_part or compression_of(path) or kind not in ("parquet", "csv", "jsonl", "text"):
        return [Part(path)]
    local = files.fetch(path)
    try:
        if kind == "parquet":
            num_groups = open_parquet(local, path, size_bytes=size, config=config).metadata.num_row_groups
            step = max(1, round(num_groups * bytes_per_part / size))
            return [Part(path, (i, min(i + step, num_groups))) for i in range(0, num_groups, step)] or [Part(path)]
        return [Part(path, span) for span in _byte_ranges(local, path, size, config, bytes_per_part)]
    except BadFile:
        return [Part(path)]


def _byte_ranges(local: Path, path: str, size: int, config: ReadConfig, step: int) -> list[tuple[int, int]]:
    if not is_ascii_based(encoding_of(local, path, config=config)):
        return [(0, size)]
    if format_of(path) == "csv":
        header = _header(local, path, config)
        return cut_records(
            local, size, step=step, delimiter=header.delimiter.encode(), header_bytes=header.size_bytes,
            max_bytes=config.max_row_bytes,
        )  # fmt: skip
    is_paragraphs = format_of(path) == "text" and config.text_unit == "paragraph"
    skip = skip_paragraph if is_paragraphs else skip_line
    return cuts(local, size, step=step, skip=skip, max_bytes=config.max_row_bytes)


def _read(files: Files, part: Part, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    path, kind, size = part.path, format_of(part.path), files.sizes[part.path]
    if _is_one_row(path, config):
        alike = [p for p in data_files(list(files.sizes), formats=config.formats)[0] if format_of(p) == kind]
        chosen = files_of_rows(files, part, config=config) or []
        yield from read_files(files, chosen, has_labels=folders_differ(alike), config=config, rejects=rejects)
        return
    local = files.fetch(path)
    if kind == "parquet":
        yield from read_parquet(local, path, size_bytes=size, groups=part.span, config=config, rejects=rejects)
    elif kind == "archive":
        yield from read_archive(local, path, config=config, rejects=rejects)
    elif kind == "csv":
        yield from _read_csv(local, part, config, rejects)
    else:
        with open_text(local, path, config=config, span=part.span) as stream:
            if kind == "json":
                yield from read_json(stream, path, config=config, rejects=rejects)
            else:
                read = read_jsonl if kind == "jsonl" else read_text
                before = _lines_before(local, part)
                yield from read(stream, path, config=config, rejects=rejects, lines_before=before)


def _read_csv(local: Path, part: Part, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    is_start = part.span is None or part.span[0] == 0
    with open_text(local, part.path, config=config, span=part.span) as stream:
        if is_start:
            header = read_header(stream, part.path, config=config)
            num_lines = header.num_lines
        else:
            header, num_lines = _header(local, part.path, config), 0
        before = _lines_before(local, part)
        yield from read_csv(
            stream, part.path, header=header, config=config, rejects=rejects, lines_before=lambda: before() + num_lines
        )


def _header(local: Path, path: str, config: ReadConfig) -> Header:
    with open_text(local, path, config=config) as stream:
        return read_header(stream, path, config=config)


def _lines_before(local: Path, part: Part) -> Callable[[], int]:
    """Counted only when a message needs it, and then once."""
    start = 0 if part.span is None else part.span[0]
    known: list[int] = []

    def lines() -> int:
        if not known:
            known.append(count_lines(local, start) if start else 0)
        return known[0]

    return lines
