"""Lines of a text stream, of which none is longer than a row may be; and places where a file of lines can be cut."""

from __future__ import annotations

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
        size_bytes: Of the whole line.
    """

    number: int
    content: bytes
    size_bytes: int

    @property
    def is_whole(self) -> bool:
        return len(self.content) == self.size_bytes


def read_lines(stream: BinaryIO, *, max_bytes: int) -> Iterator[Line]:
    """Yield lines in order; what goes beyond max_bytes of a line is passed over and never held in memory."""
    number = 0
    while content := stream.readline(max_bytes + 1):
        number += 1
        if len(content) <= max_bytes or content.endswith(b"\n"):
            yield Line(number, content, len(content))
        else:
            size = len(content) + _pass_over(stream)
            yield Line(number, content[:HEAD_BYTES], size)


def count_lines(local: Path, end: int) -> int:
    """How many newlines a file's first bytes hold."""
    total, left = 0, end
    with local.open("rb") as stream:
        while left and (block := stream.read(min(BUFFER_BYTES, left))):
            total += block.count(b"\n")
            left -= len(block)
    return total


def cuts(local: Path, size: int, *, step: int, skip: Callable[[BinaryIO], None]) -> list[tuple[int, int]]:
    """Ranges of bytes of about step each, cut where `skip` says that a row may begin.

    Args:
        skip: Moves a stream from anywhere to where the next row begins.
    """
    edges = [0]
    with local.open("rb") as stream:
        for goal in range(step, size, step):
            if goal > edges[-1]:
                stream.seek(goal - 1)  # a row that begins at the very goal is found
                skip(stream)
                edges.append(stream.tell())
    edges = [edge for edge in dict.fromkeys(edges) if edge < size] + [size]
    return list(pairwise(edges))


def skip_line(stream: BinaryIO) -> None:
    """To the start of the next line."""
    _pass_over(stream)


def skip_paragraph(stream: BinaryIO) -> None:
    """To the line after the next blank one."""
    _pass_over(stream)
    while line := stream.readline(BUFFER_BYTES):
        if not line.endswith(b"\n"):
            _pass_over(stream)
        elif not line.strip():
            return


def _pass_over(stream: BinaryIO) -> int:
    size = 0
    for block in iter(lambda: stream.readline(BUFFER_BYTES), b""):
        size += len(block)
        if block.endswith(b"\n"):
            break
    return size
