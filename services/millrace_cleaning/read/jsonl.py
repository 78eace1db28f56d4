"""Reading JSON lines: one object a line; a key that is absent is null."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from millrace_cleaning.read.lines import Line, read_lines
from millrace_cleaning.read.rejects import Rejects
from millrace_cleaning.read.rows import to_batches
from millrace_cleaning.read_settings import ReadConfig

MAX_DEPTH = 32


class BadRow(ValueError):
    """A text that is no row.

    Attributes:
        reason: A code, such as `not_json`.
        remedy: What its author can do.
    """

    def __init__(self, message: str, *, reason: str, remedy: str, field: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy
        self.field = field


def read_jsonl(
    stream: BinaryIO, path: str, *, config: ReadConfig, rejects: Rejects, lines_before: Callable[[], int]
) -> Iterator[pa.RecordBatch]:
    """Yield batches whose columns are the keys seen in them, in order of appearance.

    Args:
        stream: UTF-8.
        lines_before: How many lines of the file stand before the stream; asked for when there is something to say.

    Raises:
        InvalidData: A line is no JSON object, has a key twice, is too long or badly encoded, and that is not allowed; the
            message has its number.
    """
    yield from to_batches(_rows(stream, path, config, rejects, lines_before))


def _rows(
    stream: BinaryIO, path: str, config: ReadConfig, rejects: Rejects, lines_before: Callable[[], int]
) -> Iterator[tuple[dict[str, Any], int]]:
    position = 0
    for line in read_lines(stream, max_bytes=config.max_row_bytes, gives_up=config.on_bad_row == "fail"):
        try:
            row = _row(line, config, rejects)
        except BadRow as fault:
            number = lines_before() + line.number
            rejects.row(
                path, f"{path}, line {number}: {fault}.", reason=fault.reason, position=position, line=number,
                remedy=fault.remedy, raw=line.content, size_bytes=line.size_bytes, field=fault.field,
            )  # fmt: skip
            position += 1
            continue
        if row is not None:
            position += 1
            yield row, line.size_bytes


def _row(line: Line, config: ReadConfig, rejects: Rejects) -> dict[str, Any] | None:
    if not line.is_whole:
        raise too_long(line.size_bytes, config)
    text = decoded(line.content, config, rejects)
    if not text.strip():
        return None
    return parse_row(text)


def parse_row(text: str) -> dict[str, Any]:
    """A JSON object as a row. Raises BadRow if the text is none."""
    try:
        row = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise BadRow("not JSON that can be read: nested too deeply", reason="nesting", remedy="Flatten it.") from None
    except ValueError as error:
        raise BadRow(
            f"not JSON ({str(error)[:120]})",
            reason="not_json",
            remedy="Write one JSON object a line; the file may be truncated.",
        ) from error
    if not isinstance(row, dict):
        raise BadRow(
            f"expected a JSON object, found {type(row).__name__}",
            reason="not_an_object",
            remedy='Write each row as {"column": value, ...}.',
        )
    check_row(row, may_have_surrogates="\\u" in text)
    return row


def check_row(row: dict[str, Any], *, may_have_surrogates: bool) -> None:
    """Refuse values that no column can hold.

    Raises:
        BadRow: Half a surrogate pair, or lists nested too deeply.
    """
    for name, value in row.items():
        if may_have_surrogates and _has_surrogate(name, value):
            raise BadRow(
                f"a text in column {name!a} holds half of a surrogate pair, which no encoding can write",
                reason="surrogate",
                remedy="Remove lone \\ud800 to \\udfff escapes from the file.",
                field=ascii(name),
            )
        if isinstance(value, list | dict) and _depth(value) > MAX_DEPTH:
            raise BadRow(
                f"the value of {name!r} is nested more than {MAX_DEPTH} deep", reason="nesting", remedy="Flatten it."
            )


def decoded(content: bytes, config: ReadConfig, rejects: Rejects) -> str:
    """A row's bytes as text. Raises BadRow if they are none and are not to be replaced."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        if config.on_bad_encoding == "reject":
            raise BadRow(
                f"the bytes are not {config.encoding if config.encoding != 'auto' else 'of the encoding found'}",
                reason="encoding",
                remedy="Say which encoding it is, such as `encoding: latin-1` or `encoding: cp1252`; "
                "or replace what is unknown: `on_bad_encoding: replace`.",
                field="with.encoding",
            ) from error
        rejects.replaced += 1
        text = content.decode("utf-8", "replace")
    return text


def too_long(size_bytes: int, config: ReadConfig) -> BadRow:
    """That a row has more bytes than it may; where the run fails, nobody has looked how many."""
    of_size = "" if config.on_bad_row == "fail" else f" of {size_bytes} bytes"
    return BadRow(
        f"a row{of_size} is longer than {config.max_row_bytes} bytes",
        reason="too_long",
        remedy="If it is meant, raise `max_row_bytes`; a newline may be missing.",
    )


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json's object_pairs_hook: an object whose keys are distinct. Raises ValueError if one stands twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the key {twice!r} stands twice")
    return result


def _has_surrogate(name: str, value: Any) -> bool:
    try:
        name.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _depth(value: Any) -> int:
    """How deep lists and objects are nested, level by level, so that no depth exhausts the stack."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inner for v in values if isinstance(v, list | dict)]
    return depth
