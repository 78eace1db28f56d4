"""Reading a JSON document: an array of objects, {"data": [...]} or one object; row by row, never the whole document."""

from __future__ import annotations

import codecs
import json  # the standard library; this file is named like it inside its package
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from millrace_cleaning.read.jsonl import BadRow, check_row, too_long, unique
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import to_batches
from millrace_cleaning.read.stream import BUFFER_BYTES
from millrace_cleaning.read_settings import ReadConfig

_BLANK = re.compile(r"[ \t\r\n]*")
_DATA = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"data"[ \t\r\n]*:[ \t\r\n]*\[')


class _Window:
    """The text in hand: grows as asked, and forgets what was read."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._stream, self._path = stream, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.at = 0
        self.line = 1
        self.is_over = False

    def grow(self) -> bool:
        """Read as much again as there is; False at the document's end."""
        if self.is_over:
            return False
        self.line += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :], 0
        try:
            block = self._stream.read(max(BUFFER_BYTES, len(self.text)))
            self.is_over = not block
            self.text += self._decoder.decode(block, final=self.is_over)
        except UnicodeDecodeError as error:
            raise BadFile(
                f"{self._path}, after line {self.line}: the bytes are not of the file's encoding.",
                reason="encoding",
                remedy="Say which encoding it is, such as `encoding: latin-1`.",
                field="with.encoding",
            ) from error
        return True

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            self.at = _BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]  # matches nothing, too
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.grow():
                return ""

    @property
    def here(self) -> int:
        """The line in hand; counted when there is something to say of it."""
        return self.line + self.text.count("\n", 0, self.at)


def read_json(stream: BinaryIO, path: str, *, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Yield batches of a document's objects. `stream` is UTF-8.

    Raises:
        BadFile: The document is no JSON, or breaks off; rows before the fault were yielded.
        InvalidData: An element is no row, and that is not allowed.
    """
    yield from to_batches(_rows(_Window(stream, path), path, config, rejects))


def _rows(window: _Window, path: str, config: ReadConfig, rejects: Rejects) -> Iterator[tuple[dict[str, Any], int]]:
    first = window.peek()
    wrapped = _DATA.match(window.text, window.at)
    if first not in ("[", "{"):
        found = "nothing" if not first else ascii(first)
        raise _broken(
            path, window.here, f"expected an array of objects, found {found}", "empty" if not first else "not_json"
        )
    if first == "{" and not wrapped:
        yield from _elements(window, path, config, rejects, only_one=True)
        return
    window.at = wrapped.end() if wrapped else window.at + 1
    yield from _elements(window, path, config, rejects, only_one=False)


def _elements(
    window: _Window, path: str, config: ReadConfig, rejects: Rejects, *, only_one: bool
) -> Iterator[tuple[dict[str, Any], int]]:
    position = 0
    while (mark := window.peek()) != "]":
        if position and not only_one:
            if mark != ",":
                raise _broken(path, window.here, "expected a comma or the end of the array", "truncated")
            window.at += 1
            window.peek()
        value, size = _next(window, path, config)
        text = window.text[window.at - size : window.at]
        try:
            if not isinstance(value, dict):
                raise BadRow(
                    f"expected an object, found {type(value).__name__}", reason="not_an_object",
                    remedy='Write each element as {"column": value, ...}.',
                )  # fmt: skip
            if size > config.max_row_bytes:
                raise too_long(size, config)
            check_row(value, may_have_surrogates="\\u" in text)
            yield value, size
        except BadRow as fault:
            line = window.here - text.count("\n")
            rejects.row(
                path, f"{path}, line {line}: {fault}.", reason=fault.reason, position=position, line=line,
                remedy=fault.remedy, raw=text.encode("utf-8", "replace"), field=fault.field,
            )  # fmt: skip
        position += 1
        if only_one:
            return


def _next(window: _Window, path: str, config: ReadConfig) -> tuple[Any, int]:
    """The value at the window's place, and how many characters it takes. The window doubles until it holds the value."""
    decoder = json.JSONDecoder(object_pairs_hook=unique)
    while True:
        try:
            value, end = decoder.raw_decode(window.text, window.at)
        except RecursionError:
            raise _broken(path, window.here, "nested too deeply", "nesting") from None
        except ValueError as error:
            if not _may_go_on(error, len(window.text)):
                raise _broken(path, window.here, f"not JSON ({str(error)[:120]})", "not_json") from error
            if len(window.text) - window.at > config.max_row_bytes:
                raise _broken(
                    path, window.here, f"no value ends within {config.max_row_bytes} bytes", "too_long"
                ) from error
            if not window.grow():
                raise _broken(path, window.here, f"not JSON ({str(error)[:120]})", "not_json") from error
            continue
        size = end - window.at
        if end == len(window.text) and window.grow():  # a number may go on
            continue
        window.at = end
        return value, size


def _may_go_on(error: ValueError, length: int) -> bool:
    """Whether a text that is no value yet may become one when more of it is read."""
    if not isinstance(error, json.JSONDecodeError):  # a key that stands twice
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= length - len("-Infinity")


def _broken(path: str, line: int, message: str, reason: str) -> BadFile:
    return BadFile(
        f"{path}, line {line}: {message}.",
        reason=reason,
        remedy="Give an array of objects; or one object a line, under the suffix .jsonl. The file may be truncated.",
        line=line,
    )
