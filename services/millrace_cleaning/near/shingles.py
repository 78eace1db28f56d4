"""From Arrow's bytes to hashes of words and shingles, without a Python object in between."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.near.settings import NearDedupConfig

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]

NUM_CODE_POINTS = 0x40000
"""Planes 0 to 3: all scripts. Characters above are no letters."""
ALONE = 1 << 31
"""Set where a character is a word of its own."""
_WITHOUT_SPACES = (
    range(0x0E00, 0x0F00),  # Thai, Lao
    range(0x1000, 0x10A0),  # Myanmar
    range(0x1780, 0x1800),  # Khmer
    range(0x3040, 0x3100), range(0x31F0, 0x3200), range(0x1B000, 0x1B170),  # Hiragana, Katakana
    range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x20000, NUM_CODE_POINTS),  # Han
)  # fmt: skip

_FNV, _FNV_START = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)  # FNV-1a, over code points
_BASE = np.uint64(0x9E3779B97F4A7C15 & ~7 | 3)  # B - 1 has a single factor of two, so that no bits of a sum are lost
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Sets of shingle hashes, each ascending and without repetition, one after another.

    Two shingles share a hash with probability 2^-32: of two texts of a thousand words, one in four thousand has such a pair.
    """

    values: UInt32s
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[UInt32s]:
        for begin, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.values[begin:end]


def shingle_sets(texts: pa.Array, *, config: NearDedupConfig) -> ShingleSets:
    """Return the set of word shingles of each text; a null, or a text without words, has the empty set."""
    text, offsets = buffers(texts)
    values = np.empty(_most_words(int(offsets[-1] - offsets[0])) + len(texts), dtype=np.uint32)
    words = np.empty(_most_words(_longest(offsets)), dtype=np.uint64)
    ends = _all_shingles(text, offsets, letters(), config.words_per_shingle, words, values)
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        values[begin:end].sort()  # numpy's sort is vectorised, numba's is not
    ends = _distinct(values, ends)
    return ShingleSets(values[: ends[-1]].copy(), ends)


def buffers(texts: pa.Array) -> tuple[Bytes, Ints]:
    """The UTF-8 bytes behind an array of strings and where each text begins and ends in them; a null is empty."""
    array = texts.fill_null("").cast(pa.large_string()) if texts.null_count else texts.cast(pa.large_string())
    if not len(array):
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offsets, data = array.buffers()
    found = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return (np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, dtype=np.uint8)), found


def scratch(offsets: Ints) -> tuple[UInt64s, UInt32s]:
    """Room for the words and for the shingles of the longest text."""
    most = _most_words(_longest(offsets))
    return np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint32)


@cache
def letters() -> UInt32s:
    """For each code point its lower case, with ALONE where it is a word of its own, or 0 where it parts words."""
    table = np.zeros(NUM_CODE_POINTS, dtype=np.uint32)
    for code in range(NUM_CODE_POINTS):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            table[code] = ord(character.lower()[0])
    for block in _WITHOUT_SPACES:
        table[block.start : block.stop] |= np.where(table[block.start : block.stop], np.uint32(ALONE), np.uint32(0))
    return table


def _most_words(size_bytes: int) -> int:
    return size_bytes // 2 + 1  # a letter and what parts it from the next; characters that stand alone have three bytes


def _longest(offsets: Ints) -> int:
    return int(np.diff(offsets).max(initial=0))


@numba.njit(cache=True, nogil=True)
def hash_words(text: Bytes, begin: int, end: int, table: UInt32s, words: UInt64s) -> int:
    """Write the hash of each word of text[begin:end], which is UTF-8; return their number."""
    num = 0
    word, is_inside = _FNV_START, False
    at = begin
    while at < end:
        code = np.int64(text[at])
        at += 1
        if code >= 0xC0:
            more = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
            code &= 0x3F >> more
            for _ in range(min(more, end - at)):
                code = code << 6 | np.int64(text[at]) & 0x3F
                at += 1
        letter = table[code] if code < NUM_CODE_POINTS else np.uint32(0)
        alone = letter & np.uint32(ALONE)
        if is_inside and (letter == 0 or alone):
            words[num] = mix(word)
            num += 1
            word, is_inside = _FNV_START, False
        if alone:
            words[num] = mix((_FNV_START ^ np.uint64(letter)) * _FNV)
            num += 1
        elif letter:
            word, is_inside = (word ^ np.uint64(letter)) * _FNV, True
    if is_inside:
        words[num] = mix(word)
        num += 1
    return num


@numba.njit(cache=True, nogil=True)
def hash_shingles(words: UInt64s, num_words: int, width: int, shingles: UInt32s) -> int:
    """Write the hash of each run of `width` words; of fewer words, of all of them. Return the number of runs."""
    if num_words == 0:
        return 0
    gone = np.uint64(1)
    for _ in range(width):
        gone *= _BASE
    rolling = np.uint64(0)
    for i in range(min(width, num_words)):
        rolling = rolling * _BASE + words[i]
    shingles[0] = np.uint32(mix(rolling) >> _HALF)
    for i in range(width, num_words):
        rolling = rolling * _BASE + words[i] - words[i - width] * gone
        shingles[i - width + 1] = np.uint32(mix(rolling) >> _HALF)
    return max(num_words - width + 1, 1)


@numba.njit(cache=True, nogil=True, inline="always")
def mix(value: np.uint64) -> np.uint64:
    """The finalizer of splitmix64 (Steele et al. 2014, figure 17)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _all_shingles(text: Bytes, offsets: Ints, table: UInt32s, width: int, words: UInt64s, shingles: UInt32s) -> Ints:
    """Write the shingles of each text, one after another; return where each text's begin and end."""
    ends = np.zeros(len(offsets), dtype=np.int64)
    for row in range(len(offsets) - 1):
        num_words = hash_words(text, offsets[row], offsets[row + 1], table, words)
        ends[row + 1] = ends[row] + hash_shingles(words, num_words, width, shingles[ends[row] :])
    return ends


@numba.njit(cache=True, nogil=True)
def _distinct(values: UInt32s, ends: Ints) -> Ints:
    """Close up sorted runs in place, each value of a run once; return where the runs end now."""
    kept = np.zeros(len(ends), dtype=np.int64)
    at = 0
    for row in range(len(ends) - 1):
        for i in range(ends[row], ends[row + 1]):
            if i == ends[row] or values[i] != values[i - 1]:
                values[at] = values[i]
                at += 1
        kept[row + 1] = at
    return kept
