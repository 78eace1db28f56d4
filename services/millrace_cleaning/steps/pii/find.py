"""Where personal data stands in a column: candidates by a compiled pass over its bytes, then patterns and checksums on those."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.steps.pii import accounts, credentials, national, network, people, phones
from millrace_cleaning.steps.pii.prefilter import buffers_of, windows_of
from millrace_cleaning.steps.pii.settings import KINDS, PiiConfig
from millrace_cleaning.steps.pii.shapes import Group, Shape, Span

GROUPS: tuple[Group, ...] = (
    network.CREDENTIALS, network.MAIL, credentials.PRIVATE_KEYS, credentials.SECRETS, people.PASSPORTS, accounts.IBANS,
    accounts.CARDS, national.LETTERED, national.NUMBERS, credentials.COINS, network.IPV6, network.MAC, network.IPV4,
    people.BIRTHS, phones.INTERNATIONAL, phones.NATIONAL,
)  # fmt: skip
"""The more specific come first: of two data of one length, the earlier is taken."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f", " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    }
)
"""Blanks and hyphens that typography puts into numbers; each is one character as before, so that places stay."""


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found, in order of place and without overlaps.

    Attributes:
        rows: Which row of the column; ascending.
        begins, ends: Places in the column's data, in bytes.
        kinds: Positions in KINDS.
    """

    rows: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]

    @classmethod
    def of(cls, found: Sequence[tuple[int, int, int, int]]) -> Hits:
        """Hits from (row, begin, end, kind)."""
        table: npt.NDArray[Any] = np.array(found, dtype=np.int64).reshape(-1, 4)
        return cls(*table.T)


class Finder:
    """Looks for the kinds that a configuration asks for."""

    def __init__(self, config: PiiConfig) -> None:
        self._config = config
        self._groups = [
            c for c in (_compiled(group, config, rank) for rank, group in enumerate(GROUPS)) if c is not None
        ]
        self._by_signs: dict[int, list[_Compiled]] = {}

    def find(self, column: pa.Array) -> Hits:
        """Return what stands in a string column; nulls hold nothing."""
        data, offsets = buffers_of(column)
        is_null = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        found = []
        for row, begin, end, signs in windows_of(data, offsets).tolist():
            if is_null is None or not is_null[row]:
                window = data[begin:end].tobytes()
                found += [(row, begin + b, begin + e, kind) for b, e, kind in self._in_window(window, signs)]
        return Hits.of(found)

    def _in_window(self, window: bytes, signs: int) -> Iterator[tuple[int, int, int]]:
        if signs not in self._by_signs:
            self._by_signs[signs] = [group for group in self._groups if group.signs & signs]
        text = window.decode("utf-8", "surrogateescape")
        is_ascii = len(text) == len(window)
        plain = text if is_ascii else text.translate(_PLAIN)
        found = [hit for group in self._by_signs[signs] for hit in group.matches(plain, self._config)]
        for begin, end, kind in _without_overlaps(found):
            if is_ascii:
                yield begin, end, kind
            else:
                yield _num_bytes(text[:begin]), _num_bytes(text[:end]), kind


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A group as one pattern: at each place where it may begin, each shape is tried and captured without moving on."""

    signs: int
    rank: int
    pattern: re.Pattern[str]
    shapes: tuple[Shape, ...]

    def matches(self, text: str, config: PiiConfig) -> Iterator[tuple[int, int, int, int]]:
        """Yield (begin, end, kind, rank) of what is confirmed."""
        for match in self.pattern.finditer(text):
            if match.lastindex is None:
                continue
            for number, shape in enumerate(self.shapes, start=1):
                span: Span | None = match.span(number)
                if span is not None and span[0] >= 0:
                    span = shape.confirm(text, span, config)
                    if span is not None:
                        yield *span, KINDS.index(shape.kind), self.rank


def _compiled(group: Group, config: PiiConfig, rank: int) -> _Compiled | None:
    shapes = tuple(shape for shape in group.shapes if shape.kind in config.sought)
    if not shapes:
        return None
    pattern = group.start + "".join(f"(?=({shape.pattern})?)" for shape in shapes)
    return _Compiled(group.signs, rank, re.compile(pattern), shapes)


def _without_overlaps(found: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """Of what overlaps the longest stays; of equally long ones the more specific, then the first."""
    taken: list[tuple[int, int, int]] = []
    for begin, end, kind, _ in sorted(found, key=lambda hit: (hit[0] - hit[1], hit[3], hit[0], hit[2])):
        if all(end <= b or e <= begin for b, e, _ in taken):
            taken.append((begin, end, kind))
    return sorted(taken)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
