"""Whether a column's values repeat, in bounded memory, and the same whatever order and parts they came in.

Of all distinct values those with the smallest hashes are remembered, with whether each stood twice (bottom-k sketch; Cohen and
Kaplan 2007). A value among the smallest of all is among the smallest of every part that has it, so merging is exact.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_VALUES = 512
"""Remembered values. Where a share p of a column's distinct values repeats, none of these does with (1 - p)^512: 0.6% of 1%."""

MAX_BYTES = 256
"""Longer values, in bytes, are left out by who adds them: hashing takes time, and they are no ids."""


@dataclass(slots=True)
class RepeatSketch:
    """Hashes of the sampled values, each with whether it stood more than once."""

    seen: dict[int, bool] = field(default_factory=dict)
    _limit: int = 2**64  # no hash from here on is among the smallest

    @property
    def repeats(self) -> bool:
        return any(self.seen.values())

    def add(self, values: Iterable[str], counts: Iterable[int]) -> None:
        """Count distinct values that stand so often each."""
        hashes = (int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little") for value in values)
        self._add(zip(hashes, (count > 1 for count in counts), strict=True))

    def merge(self, other: RepeatSketch) -> None:
        """Count another sketch's values too."""
        self._add(other.seen.items())

    def to_json(self) -> dict[str, Any]:
        ordered = sorted(self.seen)
        return {"once": [h for h in ordered if not self.seen[h]], "again": [h for h in ordered if self.seen[h]]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RepeatSketch:
        return cls(dict.fromkeys(value["once"], False) | dict.fromkeys(value["again"], True))

    def _add(self, found: Iterable[tuple[int, bool]]) -> None:
        for hashed, is_again in found:
            if hashed < self._limit:
                self.seen[hashed] = is_again or hashed in self.seen
        if len(self.seen) > MAX_VALUES:
            kept = heapq.nsmallest(MAX_VALUES, self.seen)
            self.seen = {hashed: self.seen[hashed] for hashed in kept}
            self._limit = kept[-1] + 1
