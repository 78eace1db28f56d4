"""Lines of a text stream, of which none is longer than a row may be; and places where a file of lines can be cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from millrace_cleaning.read.stream import BUFFER_BYTES

HEAD_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or the first bytes of one that is too long.

    Attributes:
        number: From 1, in the stream.
        content: With its newline.
        size_bytes: Of the whole line; of one that is too long, of what was read of it.
    """

    number: int
    content: bytes
    size_bytes: int

    @property
    def is_whole(self) -> bool:
        return len(self.content) == self.size_bytes


def read_lines(stream: BinaryIO, *, max_bytes: int, gives_up: bool = False) -> Iterator[Line]:
    """Yield lines in order; what goes beyond max_bytes of a line is passed over and never held in memory.

    Args:
        gives_up: A line that is too long is the last one: who asks goes no further, and its end may be far away.
    """
    number = 0
    while content := stream.readline(max_bytes + 1):
        number += 1
        if len(content) <= max_bytes or content.endswith(b"\n"):
            yield Line(number, content, len(content))
        else:
            size = len(content) + (len(stream.read(1)) if gives_up else _pass_over(stream))
            yield Line(number, content[: min(HEAD_BYTES, max_bytes)], size)
            if gives_up:
                return


def count_lines(local: Path, end: int) -> int:
    """How many newlines a file's first bytes hold."""
    total, left = 0, end
    with local.open("rb") as stream:
        while left and (block := stream.read(min(BUFFER_BYTES, left))):
            total += block.count(b"\n")
            left -= len(block)
    return total


def cuts(
    local: Path, size: int, *, step: int, skip: Callable[[BinaryIO, int], bool], max_bytes: int
) -> list[tuple[int, int]]:
    """Ranges of bytes of about step each, cut where `skip` says that a row may begin.

    Args:
        skip: Moves a stream from anywhere to where the next row begins; false if that is more than so many bytes away.
        max_bytes: How far is looked. Where no row begins so near, it is tried again twice as far on each time, so that a
            huge row is not read here.
    """
    edges, goal, stride = [0], step, step
    with local.open("rb", buffering=BUFFER_BYTES) as stream:
        while goal < size:
            stream.seek(goal - 1)  # a row that begins at the very goal is found
            is_found = skip(stream, max_bytes)
            stride = step if is_found else 2 * stride
            if is_found:
                edges.append(stream.tell())
            goal = max(goal, edges[-1]) + stride
    edges = [edge for edge in dict.fromkeys(edges) if edge < size] + [size]
    return list(pairwise(edges))


def skip_line(stream: BinaryIO, max_bytes: int) -> bool:
    """To the start of the next line, or the end."""
    return _pass_over(stream, max_bytes) < max_bytes


def skip_paragraph(stream: BinaryIO, max_bytes: int) -> bool:
    """To the line after the next blank one, or the end."""
    left = max_bytes - _pass_over(stream, max_bytes)
    while left > 0 and (line := stream.readline(BUFFER_BYTES)):
        left -= len(line)
        if not line.endswith(b"\n"):
            left -= _pass_over(stream, left)
        elif not line.strip():
            return True
    return left > 0


def _pass_over(stream: BinaryIO, max_bytes: float = math.inf) -> int:
    """Move past the line's end, or about max_bytes on; return how far that was."""
    size = 0
    while size < max_bytes and (block := stream.readline(BUFFER_BYTES)):
        size += len(block)
        if block.endswith(b"\n"):
            break
    return size
