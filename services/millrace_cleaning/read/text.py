"""Reading plain text: a row for each file, paragraph or line, in the column `text`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from millrace_cleaning.read.jsonl import BadRow, decoded, too_long
from millrace_cleaning.read.lines import HEAD_BYTES, read_lines
from millrace_cleaning.read.rejects import Rejects
from millrace_cleaning.read.rows import to_batches
from millrace_cleaning.read.stream import BUFFER_BYTES, read_up_to
from millrace_cleaning.read_settings import ReadConfig

COLUMN = "text"


def read_text(
    stream: BinaryIO, path: str, *, config: ReadConfig, rejects: Rejects, lines_before: Callable[[], int]
) -> Iterator[pa.RecordBatch]:
    """Yield batches of a file's lines or paragraphs, without their newlines; blank ones are no rows.

    Args:
        stream: UTF-8.
        lines_before: How many lines of the file stand before the stream.

    Raises:
        InvalidData: A row is too long, badly encoded or binary, and that is not allowed.
    """
    yield from to_batches(_rows(stream, path, config, rejects, lines_before))


def read_document(stream: BinaryIO, path: str, *, config: ReadConfig, rejects: Rejects, position: int) -> str | None:
    """A file that is one row; None if it is blank or was rejected as the row at this position of its part."""
    content = read_up_to(stream, config.max_row_bytes + 1)
    size = len(content)
    if size > config.max_row_bytes:
        if config.on_bad_row != "fail":
            size += sum(len(block) for block in iter(lambda: stream.read(BUFFER_BYTES), b""))
        content = content[:HEAD_BYTES]
    try:
        text = _text(content, size, config, rejects)
        return text if text.strip() else None
    except BadRow as fault:
        rejects.row(
            path, f"{path}: {fault}.", reason=fault.reason, position=position, remedy=fault.remedy, raw=content,
            size_bytes=size, field=fault.field,
        )  # fmt: skip
        return None


def _rows(
    stream: BinaryIO, path: str, config: ReadConfig, rejects: Rejects, lines_before: Callable[[], int]
) -> Iterator[tuple[dict[str, Any], int]]:
    for position, (first_line, content, size) in enumerate(_units(stream, config)):
        try:
            text = _text(content, size, config, rejects)
        except BadRow as fault:
            line = lines_before() + first_line
            rejects.row(
                path, f"{path}, line {line}: {fault}.", reason=fault.reason, position=position, line=line,
                remedy=fault.remedy, raw=content, size_bytes=size, field=fault.field,
            )  # fmt: skip
        else:
            yield {COLUMN: text}, size


def _units(stream: BinaryIO, config: ReadConfig) -> Iterator[tuple[int, bytes, int]]:
    """(number of its first line, its bytes or the first of them, how many it has) of each line or paragraph."""
    kept: list[bytes] = []
    first = size = 0
    for line in read_lines(stream, max_bytes=config.max_row_bytes, gives_up=config.on_bad_row == "fail"):
        is_blank = line.is_whole and not line.content.strip()
        if not is_blank:
            first = first or line.number
            if size <= config.max_row_bytes:
                kept.append(line.content)
            size += line.size_bytes
        if first and (is_blank or config.text_unit == "line"):
            yield first, b"".join(kept), size
            kept, first, size = [], 0, 0
    if first:
        yield first, b"".join(kept), size


def _text(content: bytes, size: int, config: ReadConfig, rejects: Rejects) -> str:
    if size > config.max_row_bytes + 1:  # a line's own newline is not counted
        raise too_long(size, config)
    if b"\0" in content:
        raise BadRow("holds NUL bytes, so it is no text", reason="binary", remedy="Leave binary files out.")
    return decoded(content, config, rejects).rstrip("\r\n")
