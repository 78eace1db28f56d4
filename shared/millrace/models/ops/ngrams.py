"""`hashed_ngrams@1`: a text as ids of its hashed word and character n-grams, without a vocabulary.

Every n-gram's hash comes from one prefix sum over the batch's bytes. With H[k] the sum of byte[i] * P^i for i < k,
modulo 2^64, the hash of bytes s..e is (H[e] - H[s]) * P^-s: exact, because an odd P has an inverse modulo 2^64. So no
loop runs over texts or words, and equal n-grams have equal hashes wherever they stand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.models.ops.base import Array, Op, strings
from millrace.models.signature import TensorSpec

PADDING = 0

_P = np.uint64(0x9E3779B97F4A7C15)
_P_INVERSE = np.uint64(pow(int(_P), -1, 2**64))
_WORD_BYTE = np.zeros(256, dtype=bool)
_WORD_BYTE[[*range(48, 58), *range(65, 91), 95, *range(97, 123), *range(128, 256)]] = True


class HashedNgrams(Op):
    """Ids int64 (rows, max_length), in 1..buckets-1; 0 pads. Null and empty texts are all padding.

    Word n-grams come first, shorter orders first, each in the text's order; then character n-grams; what exceeds
    max_length is dropped. A word is a run of letters, digits, underscores and non-ASCII characters.

    Arguments:
        buckets: Rows of the embedding table, at least 2; different n-grams may share one.
        max_length: Ids a text.
        word_orders: Lengths of word n-grams, such as [1, 2].
        char_orders: Lengths of character n-grams, such as [3, 4, 5].
        lowercase: Fold case first.
        unique: Keep only the first of equal ids in a text: a set in place of a sequence.
        log_repeats: Of equal ids in a text keep the first, second, fourth, eighth and so on: a sum over what is left
            grows with the logarithm of a count, as sublinear TF-IDF does.
    """

    kind = "hashed_ngrams@1"
    takes = ("text", "category")
    defaults: ClassVar[dict[str, Any]] = {
        "buckets": 2**16,
        "max_length": 256,
        "word_orders": [1, 2],
        "char_orders": [],
        "lowercase": True,
        "unique": False,
        "log_repeats": False,
    }

    def apply(self, batch: pa.RecordBatch) -> Array:
        joined = pc.fill_null(strings(batch, self.spec.columns[0]), "")
        for name in self.spec.columns[1:]:
            joined = pc.binary_join_element_wise(joined, pc.fill_null(strings(batch, name), ""), "\n")
        if self.arguments["lowercase"]:
            joined = pc.utf8_lower(joined)
        max_length = int(self.arguments["max_length"])
        out = np.full((batch.num_rows, max_length), PADDING, dtype=np.int64)
        filled = np.zeros(batch.num_rows, dtype=np.int64)
        for rows, ids in _Text(joined).ngrams(
            self.arguments["word_orders"], self.arguments["char_orders"], int(self.arguments["buckets"])
        ):
            if self.arguments["unique"]:
                rows, ids = _first_of_equals(rows, ids)
            elif self.arguments["log_repeats"]:
                rows, ids = _powers_of_two_of_equals(rows, ids)
            counts = np.bincount(rows, minlength=batch.num_rows)
            rank = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
            place = filled[rows] + rank
            keep = place < max_length
            out[rows[keep], place[keep]] = ids[keep]
            filled += counts
        return out

    @property
    def tensor(self) -> TensorSpec:
        return TensorSpec(name=self.spec.output, dtype="int64", shape=("batch", int(self.arguments["max_length"])))


class _Text:
    """A batch of texts as one run of bytes with the prefix sums of its hash."""

    def __init__(self, texts: pa.Array) -> None:
        lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
        self.row_end = np.cumsum(lengths)
        self.data = np.frombuffer("".join(texts.to_pylist()).encode(), dtype=np.uint8)
        size = len(self.data)
        powers = np.full(size + 1, _P, dtype=np.uint64)
        powers[0] = 1
        inverses = np.full(size + 1, _P_INVERSE, dtype=np.uint64)
        inverses[0] = 1
        self.inverses = np.multiply.accumulate(inverses)
        terms = (self.data.astype(np.uint64) + np.uint64(1)) * np.multiply.accumulate(powers)[:-1]
        self.prefix = np.concatenate([np.zeros(1, np.uint64), np.add.accumulate(terms)])

    def ngrams(self, word_orders: list[int], char_orders: list[int], buckets: int) -> Iterator[tuple[Array, Array]]:
        """(rows, ids) of each order, sorted by row, within a row in the text's order."""
        starts, ends = self._words()
        rows = self._rows(starts)
        word = _mix(self._spans(starts, ends))
        for order in sorted(word_orders):
            yield self._chained(word, rows, order, buckets)
        letters = np.flatnonzero((self.data & 0xC0) != 0x80)
        ends = np.append(letters[1:], len(self.data))
        rows = self._rows(letters)
        for order in sorted(char_orders):
            count = max(len(letters) - order + 1, 0)
            first, last = slice(0, count), slice(order - 1, order - 1 + count)
            inside = rows[first] == rows[last]
            hashes = self._spans(letters[first][inside], ends[last][inside])
            yield rows[first][inside], _bucket(hashes ^ _salt(-order), buckets)

    def _words(self) -> tuple[Array, Array]:
        inside = _WORD_BYTE[self.data]
        before = np.concatenate([[False], inside[:-1]]) if len(inside) else inside
        row_start = np.zeros(len(inside), dtype=bool)
        row_start[self.row_end[self.row_end < len(inside)]] = True
        starts = np.flatnonzero(inside & (~before | row_start))
        stops = np.flatnonzero(np.append((~inside | row_start)[1:] & inside[:-1], inside[-1:])) + 1
        return starts, stops

    def _rows(self, positions: Array) -> Array:
        return np.searchsorted(self.row_end, positions, side="right")

    def _spans(self, starts: Array, ends: Array) -> Array:
        return cast(Array, (self.prefix[ends] - self.prefix[starts]) * self.inverses[starts])

    @staticmethod
    def _chained(word: Array, rows: Array, order: int, buckets: int) -> tuple[Array, Array]:
        count = max(len(word) - order + 1, 0)
        inside = rows[:count] == rows[len(rows) - count :]
        hashes = word[:count]
        for step in range(1, order):
            hashes = _mix(hashes * _P + word[step : step + count])
        return rows[:count][inside], _bucket(hashes[inside] ^ _salt(order), buckets)


def _salt(order: int) -> np.uint64:
    """Keeps orders apart: the word `ab` and the character pair `ab` are different features."""
    return np.uint64((order * 0xBF58476D1CE4E5B9) % 2**64)


def _mix(hashes: Array) -> Array:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): every input bit moves every output bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast(Array, hashes ^ (hashes >> np.uint64(31)))


def _bucket(hashes: Array, buckets: int) -> Array:
    return (_mix(hashes) % np.uint64(max(buckets - 1, 1))).astype(np.int64) + 1


def _first_of_equals(rows: Array, ids: Array) -> tuple[Array, Array]:
    span = math.ceil(int(ids.max(initial=0)) + 1)
    _, first = np.unique(rows * span + ids, return_index=True)
    first.sort()
    return rows[first], ids[first]


def _powers_of_two_of_equals(rows: Array, ids: Array) -> tuple[Array, Array]:
    keys = rows * (int(ids.max(initial=0)) + 1) + ids
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    nth = np.empty(len(keys), dtype=np.int64)
    nth[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    keep = (nth & (nth + 1)) == 0
    return rows[keep], ids[keep]
