"""Where CSV records end: quotes may hold newlines. Exact where quotes stand as the format says; slower where they do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from millrace_cleaning.read.lines import HEAD_BYTES

BLOCK_BYTES = 4 * 2**20
"""How much is parsed at once, unless one record is longer."""

_QUOTE, _NEWLINE, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Record:
    """One record, or the line that begins a broken one.

    Attributes:
        content: Its bytes with the newline; of one that is too long, the first of them.
        size_bytes: Of the whole.
        num_values: As the delimiters say.
        fault: Empty, `too_long` or `quote`.
    """

    content: bytes
    size_bytes: int
    num_values: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records in a row: as one piece of bytes, or where something is amiss, one by one."""

    content: bytes
    records: tuple[Record, ...] | None = None


def record_blocks(stream: BinaryIO, *, delimiter: bytes, max_bytes: int, gives_up: bool = False) -> Iterator[Block]:
    """Cut a stream, which begins at a record's start, into blocks of whole records; no more than max_bytes and a block
    are in memory.

    Args:
        gives_up: The end of a record that is too long is not looked for: who asks goes no further.
    """
    carry = b""
    while True:
        block = stream.read(max(BLOCK_BYTES, min(len(carry), max_bytes - len(carry))))
        carry += block
        if not block:
            if carry:
                yield from _rest(carry if carry.endswith(b"\n") else carry + b"\n", delimiter, max_bytes)
            return
        end = (
            _last_end(carry, delimiter) if b"\n" in block else 0
        )  # nothing ends, and a huge value is not searched again
        if end > 0 and (len(carry) <= max_bytes or _longest(carry[:end]) <= max_bytes):
            yield Block(carry[:end])
            carry = carry[end:]
        elif end or len(carry) > max_bytes:
            records, carry = _one_by_one(carry, delimiter, max_bytes, is_over=False)
            if carry and len(carry) > max_bytes and b"\n" not in carry:
                records.append(
                    Record(carry[:HEAD_BYTES], len(carry), fault="too_long") if gives_up else _pass_over(stream, carry)
                )
                carry = b""
            if records:
                yield Block(b"", tuple(records))


def split(content: bytes, *, delimiter: bytes, max_bytes: int) -> tuple[Record, ...]:
    """The records of a block that ends with one."""
    return tuple(_one_by_one(content, delimiter, max_bytes, is_over=True)[0])


def cut_records(
    local: Path, size: int, *, step: int, delimiter: bytes, header_bytes: int, max_bytes: int
) -> list[tuple[int, int]]:
    """Ranges of about step bytes that begin with a record; one range if quotes leave any doubt where one does, or a line
    is longer than max_bytes.

    Args:
        header_bytes: Where the first record after the header begins.
    """
    edges, goal = [0], max(step, header_bytes + 1)
    num_quotes, at, before, line_at = 0, 0, b"\n", 0
    with local.open("rb") as stream:
        block = stream.read(BLOCK_BYTES)
        while block:
            following = stream.read(BLOCK_BYTES)
            quotes = _quotes(block)
            if not _is_regular(block, quotes, num_quotes, before, following[:1] or b"\n", delimiter, is_start=at == 0):
                return [(0, size)]
            while goal < at + len(block):
                edge = _first_end(block, quotes, num_quotes, max(goal - 1 - at, 0))
                if edge < 0:
                    break
                edges.append(at + edge)
                goal = max(goal + step, edges[-1] + 1)
            num_quotes += len(quotes)
            line_at = at + block.rfind(b"\n") if b"\n" in block else line_at
            at += len(block)
            if at - line_at > max_bytes + BLOCK_BYTES:
                return [(0, size)]
            before, block = block[-1:], following
    if num_quotes % 2:
        return [(0, size)]
    edges = [edge for edge in edges if edge < size] + [size]
    return list(pairwise(edges))


def _last_end(content: bytes, delimiter: bytes) -> int:
    """Past the last record that ends here; 0 if none does, -1 where quotes leave a doubt."""
    quotes = _quotes(content)
    if not len(quotes):
        return content.rfind(b"\n") + 1
    if not _is_regular(content[:-1], quotes[quotes < len(content) - 1], 0, b"\n", content[-1:], delimiter):
        return -1
    end = len(content)
    while (end := content.rfind(b"\n", 0, end)) >= 0:
        if np.searchsorted(quotes, end) % 2 == 0:
            return end + 1
        end = int(quotes[np.searchsorted(quotes, end) - 1])  # no newline within these quotes ends a record
    return 0


def _first_end(content: bytes, quotes: Offsets, num_before: int, start: int) -> int:
    while (end := content.find(b"\n", start)) >= 0:
        index = int(np.searchsorted(quotes, end))
        if (num_before + index) % 2 == 0:
            return end + 1
        if index == len(quotes):
            return -1
        start = int(quotes[index])
    return -1


def _quotes(content: bytes) -> Offsets:
    if b'"' not in content:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == _QUOTE)


def _is_regular(
    content: bytes, quotes: Offsets, num_before: int, before: bytes, after: bytes, delimiter: bytes, *,
    is_start: bool = False,
) -> bool:  # fmt: skip
    """Whether each quote opens a value at its start, closes one at its end, or is one of a pair: then counting is exact."""
    if not len(quotes):
        return True
    codes = np.frombuffer(before + content + after, dtype=np.uint8)
    edges = np.array([delimiter[0], _NEWLINE, _RETURN, _QUOTE], dtype=np.uint8)
    is_opening = (np.arange(len(quotes)) + num_before) % 2 == 0
    if is_start and content.startswith(b'\xef\xbb\xbf"'):
        quotes, is_opening = quotes[1:], is_opening[1:]
    previous, following = codes[quotes], codes[quotes + 2]
    return bool(np.isin(np.where(is_opening, previous, following), edges).all())


def _longest(content: bytes) -> int:
    """The length of the longest line, which no record in a block of whole records is known to be shorter than."""
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == _NEWLINE)
    if b'"' in content:
        ends = ends[np.searchsorted(_quotes(content), ends) % 2 == 0]
    return int(np.diff(ends, prepend=-1).max())


def _rest(content: bytes, delimiter: bytes, max_bytes: int) -> Iterator[Block]:
    if _last_end(content, delimiter) == len(content) and _longest(content) <= max_bytes:
        yield Block(content)
    else:
        yield Block(b"", split(content, delimiter=delimiter, max_bytes=max_bytes))


def _one_by_one(content: bytes, delimiter: bytes, max_bytes: int, *, is_over: bool) -> tuple[list[Record], bytes]:
    """All records that end in content, and what is left. A quote that does not close costs the line it stands in."""
    records: list[Record] = []
    start = 0
    while start < len(content):
        end, num_values, is_broken = _scan(content, start, delimiter)
        if end < 0 and not is_over and len(content) - start <= max_bytes:
            break
        line_end = content.find(b"\n", start) + 1
        if end < 0 and not line_end:
            break
        if end < 0 or (is_broken and end > line_end) or (end - start > max_bytes and end > line_end):
            end, num_values, fault = line_end, 0, "quote"
        else:
            fault = ""
        size = end - start
        if size > max_bytes:
            records.append(Record(content[start : min(end, start + HEAD_BYTES)], size, fault="too_long"))
        else:
            records.append(Record(content[start:end], size, num_values, fault))
        start = end
    return records, content[start:]


def _scan(content: bytes, start: int, delimiter: bytes) -> tuple[int, int, bool]:
    """Walk one record: (its end, or -1 if it has none; how many values; whether text follows a closing quote)."""
    at, num_values, is_broken, newline = start, 1, False, -1
    while True:
        if content.startswith(b'"', at):
            at = _closing(content, at + 1)
            if at < 0:
                return -1, num_values, is_broken
            is_broken |= content[at : at + 1] not in (delimiter, b"\n", b"\r")
        if newline < at:
            newline = content.find(b"\n", at)
            if newline < 0:
                return -1, num_values, is_broken
        at = content.find(delimiter, at, newline)
        if at < 0:
            return newline + 1, num_values, is_broken
        at += 1
        num_values += 1


def _closing(content: bytes, at: int) -> int:
    """Past the quote that closes a value; -1 if none does."""
    while (at := content.find(b'"', at)) >= 0:
        if not content.startswith(b'"', at + 1):
            return at + 1
        at += 2
    return -1


def _pass_over(stream: BinaryIO, head: bytes) -> Record:
    size = len(head)
    for part in iter(lambda: stream.readline(BLOCK_BYTES), b""):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return Record(head[:HEAD_BYTES], size, fault="too_long")
