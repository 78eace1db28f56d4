"""Reading CSV and TSV: every value as text, so that types are decided over the whole source and not by its first block."""

from __future__ import annotations

import csv  # the standard library; this file is named like it inside its package
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as arrow_csv

from millrace_cleaning.read.encoding import spoiled
from millrace_cleaning.read.jsonl import too_long
from millrace_cleaning.read.lines import read_lines
from millrace_cleaning.read.records import Block, Record, record_blocks, split
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import ROWS_PER_BATCH
from millrace_cleaning.read_settings import ReadConfig

_DELIMITERS = ",;\t|"
csv.field_size_limit(2**31 - 1)  # a header has its own limit, of columns


@dataclass(frozen=True, slots=True)
class Header:
    """A file's first record.

    Attributes:
        names: Of its columns. A nameless column is called by its position.
        delimiter: Found or given.
        num_lines, size_bytes: What it takes, with blank lines before it; bytes of UTF-8, without a byte order mark.
    """

    names: tuple[str, ...]
    delimiter: str
    num_lines: int
    size_bytes: int


def read_header(stream: BinaryIO, path: str, *, config: ReadConfig) -> Header:
    """Read as far as the header goes.

    Raises:
        BadFile: Empty, badly quoted or encoded, too many columns, or a column name twice.
    """
    kept: list[str] = []
    num_lines = size = 0
    for line in read_lines(stream, max_bytes=config.max_row_bytes, gives_up=True):
        num_lines, size = line.number, size + line.size_bytes
        if not line.is_whole or spoiled(line.content):
            fault = "the bytes are not " + config.encoding if line.is_whole else "the header is too long"
            raise BadFile(
                f"{path}, line {num_lines}: {fault}.",
                reason="encoding" if line.is_whole else "too_long",
                remedy="Say which encoding it is, such as `encoding: latin-1`, or correct the first line.",
                field="with.encoding",
            )
        text = line.content.decode()
        if kept or text.strip("\r\n"):
            kept.append(text)
            if sum(part.count('"') for part in kept) % 2 == 0 or len(kept) > 100:
                break
    if not kept:
        raise BadFile(f"{path} is empty.", reason="empty", remedy="Give a file with a header line and rows.")
    tab = path.lower().split(".gz")[0].split(".zst")[0].endswith(".tsv")
    delimiter = config.delimiter or ("\t" if tab else max(_DELIMITERS, key=kept[0].count))
    return Header(_names("".join(kept), path, delimiter, config), delimiter, num_lines, size)


def read_csv(
    stream: BinaryIO, path: str, *, header: Header, config: ReadConfig, rejects: Rejects,
    lines_before: Callable[[], int],
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield batches of string columns.

    Args:
        stream: UTF-8, at the start of a record after the header.
        lines_before: How many lines of the file stand before it.

    Raises:
        InvalidData: A row is ragged, badly quoted or encoded, or too long, and that is not allowed; with the line.
    """
    line = position = 0
    blocks = record_blocks(
        stream,
        delimiter=header.delimiter.encode(),
        max_bytes=config.max_row_bytes,
        gives_up=config.on_bad_row == "fail",
    )
    for block in blocks:
        table = None if block.records is not None or b"\0" in block.content else _parse(block.content, header, config)
        if table is None:
            judge = _Judge(path, header, config, rejects, lines_before)
            good, num_lines, num_rows = judge.judge(block, line=line, position=position)
            table = _parse(good, header, config)
            if table is None:
                raise BadFile(f"{path} is not readable as CSV after line {lines_before() + line}.", reason="not_csv")
        else:
            num_lines, num_rows = block.content.count(b"\n"), table.num_rows
        line, position = line + num_lines, position + num_rows
        yield from table.combine_chunks().to_batches(max_chunksize=ROWS_PER_BATCH)


def _parse(content: bytes, header: Header, config: ReadConfig) -> pa.Table | None:
    """A block of records as a table of strings; None if one of them is not like the header, or not UTF-8."""
    if not content.strip():
        return pa.table({name: pa.array([], pa.string()) for name in header.names})
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(content) + 1, column_names=list(header.names)
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header.names, pa.string()), strings_can_be_null=True,
                quoted_strings_can_be_null=False, null_values=list(config.null_values),
            ),
        )  # fmt: skip
    except (pa.ArrowException, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class _Judge:
    """Goes through a block record by record, to keep the good and to say what is wrong with the others."""

    path: str
    header: Header
    config: ReadConfig
    rejects: Rejects
    lines_before: Callable[[], int]

    def judge(self, block: Block, *, line: int, position: int) -> tuple[bytes, int, int]:
        """Return (good records, how many lines the block has, how many rows, bad ones included)."""
        records = block.records
        if records is None:
            delimiter = self.header.delimiter.encode()
            records = split(block.content, delimiter=delimiter, max_bytes=self.config.max_row_bytes)
        good: list[bytes] = []
        num_lines = num_rows = 0
        for record in records:
            if record.fault or record.content.strip(b"\r\n"):
                content = self._checked(record, line + num_lines + 1, position + num_rows)
                good += [] if content is None else [content]
                num_rows += 1
            num_lines += 1 if record.fault else record.content.count(b"\n")
        return b"".join(good), num_lines, num_rows

    def _checked(self, record: Record, line: int, position: int) -> bytes | None:
        is_spoiled = spoiled(record.content) and record.fault == ""
        if is_spoiled and self.config.on_bad_encoding == "replace":
            self.rejects.replaced += 1
            is_spoiled = False
            content = record.content.decode("utf-8", "replace").encode()
        else:
            content = record.content
        fault = self._fault(record, is_spoiled)
        if fault is None:
            return content
        reason, message, remedy = fault
        line += self.lines_before()
        self.rejects.row(
            self.path, f"{self.path}, line {line}: {message}.", reason=reason, position=position, line=line,
            remedy=remedy, raw=record.content, size_bytes=record.size_bytes,
            field="with.encoding" if reason == "encoding" else "",
        )  # fmt: skip
        return None

    def _fault(self, record: Record, is_spoiled: bool) -> tuple[str, str, str] | None:
        width, found = len(self.header.names), record.num_values
        if record.fault == "too_long":
            limit = str(too_long(record.size_bytes, self.config))
            return "too_long", limit, "If it is meant, raise `max_row_bytes`; a newline or a quote may be missing."
        if record.fault == "quote":
            broken = "a quoted value that starts here is broken"
            return "quote", broken, "Close the quote, or fetch the file again: it may be truncated."
        if is_spoiled:
            remedy = "Say which encoding it is, such as `encoding: latin-1` or `encoding: cp1252`."
            return "encoding", f"the bytes are not {self.config.encoding}", remedy
        if b"\0" in record.content:
            return "binary", "holds NUL bytes", "Remove them; the file may be damaged."
        if found != width:
            message = f"expected {width} values as in the header, found {found}"
            return "ragged", message, "Correct the line; quote values that hold the delimiter."
        return None


def _names(text: str, path: str, delimiter: str, config: ReadConfig) -> tuple[str, ...]:
    try:
        row = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadFile(
            f"{path}, line 1: the header is broken ({error}).", reason="quote", remedy="Close its quotes."
        ) from error
    if len(row) > config.max_columns:
        raise BadFile(
            f"{path} has {len(row)} columns, more than {config.max_columns}.",
            reason="columns",
            remedy="If they are meant, raise `max_columns`.",
        )
    names = [name.strip() or f"column_{i + 1}" for i, name in enumerate(row)]
    check_names(names, path, where=", line 1")
    return tuple(names)


def check_names(names: Sequence[str], path: str, *, where: str = "") -> None:
    """Refuse a column name that stands twice.

    Raises:
        BadFile: One does.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadFile(
                f"{path}{where}: the column name {name!r} stands twice.", reason="columns", remedy="Rename one of them.",
                field=name,
            )  # fmt: skip
        seen.add(name)
