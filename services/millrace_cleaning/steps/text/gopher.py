"""Gopher's quality rules: how many words, which, and how lines begin and end."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.characters import classes
from millrace_cleaning.steps.text.hashing import hash_bytes
from millrace_cleaning.steps.text.judging import Judge, ratio
from millrace_cleaning.steps.text.lines import after_break, line_end, strip_left, strip_right
from millrace_cleaning.steps.text.memory import byte_at
from millrace_cleaning.steps.text.settings import GopherQualityConfig
from millrace_cleaning.steps.text.words import HAS_LETTER, IS_SYMBOL, LENGTH, Split, split_of

UInt64s = npt.NDArray[np.uint64]

_WORDS, _PLAIN, _CHARS, _LETTERED, _STOPS, _HASHES, _ELLIPSES, _LINES, _BULLETS, _TRAILING = range(10)
"""What is counted of a row: words, those that are not symbols alone and their characters, those with a letter, different stop
words; `#` and ellipses; lines, those that begin with a bullet and those that end with an ellipsis."""


def apply(batch: pa.RecordBatch, config: GopherQualityConfig, scratch: Scratch) -> Outcome:
    """Remove texts that do not look like prose."""
    split = split_of(batch.column(config.column), scratch.memo)
    counts = measure(split, config.stop_words)
    words = counts[:, _WORDS]
    judge = Judge(config.column, split.texts.valid)
    judge.at_least("min_words", counts[:, _PLAIN], config.min_words)
    judge.at_most("max_words", counts[:, _PLAIN], config.max_words)
    mean_length = ratio(counts[:, _CHARS], counts[:, _PLAIN])
    judge.at_least("min_mean_word_length", mean_length, config.min_mean_word_length)
    judge.at_most("max_mean_word_length", mean_length, config.max_mean_word_length)
    judge.at_most("max_hash_ratio", ratio(counts[:, _HASHES], words), config.max_hash_ratio)
    judge.at_most("max_ellipsis_ratio", ratio(counts[:, _ELLIPSES], words), config.max_ellipsis_ratio)
    judge.at_most("max_bullet_lines", ratio(counts[:, _BULLETS], counts[:, _LINES]), config.max_bullet_lines)
    judge.at_most("max_ellipsis_lines", ratio(counts[:, _TRAILING], counts[:, _LINES]), config.max_ellipsis_lines)
    judge.at_least("min_alphabetic_words", ratio(counts[:, _LETTERED], words), config.min_alphabetic_words)
    judge.at_least("min_stop_words", counts[:, _STOPS], config.min_stop_words)
    return Outcome(batch, judge.findings)


def measure(split: Split, stop_words: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the ten counts of each row."""
    stops = np.unique(np.array([_hash(word) for word in stop_words], dtype=np.uint64))
    counts = np.zeros((split.texts.num_rows, 10), dtype=np.int64)
    _count_words(split.word_starts, split.word_hashes, split.word_marks, stops, counts)
    _count_lines(split.texts.offsets, split.texts.data, classes(), counts)
    return counts


def _hash(word: str) -> int:
    content = np.frombuffer(word.encode(), dtype=np.uint8)
    return int(hash_bytes(content.ctypes.data, content.ctypes.data + len(content), 0))


@numba.njit(cache=True, nogil=True)
def _count_words(starts, hashes, marks, stops, counts):  # type: ignore[no-untyped-def]  # numba infers
    """Stop words are found by a table of 256 that most other words miss."""
    seen = np.full(len(stops), -1, dtype=np.int64)
    may_be = np.zeros(256, dtype=np.bool_)
    for stop in stops:
        may_be[stop & np.uint64(255)] = True
    for row in range(len(starts) - 1):
        plain = chars = lettered = found = 0
        for word in range(starts[row], starts[row + 1]):
            mark = np.int64(marks[word])
            lettered += mark & HAS_LETTER != 0
            if not mark & IS_SYMBOL:
                plain += 1
                chars += mark & LENGTH
            if may_be[hashes[word] & np.uint64(255)]:
                for i in range(len(stops)):
                    if stops[i] == hashes[word] and seen[i] != row:
                        seen[i] = row
                        found += 1
        counts[row, _WORDS] = starts[row + 1] - starts[row]
        counts[row, _PLAIN], counts[row, _CHARS] = plain, chars
        counts[row, _LETTERED], counts[row, _STOPS] = lettered, found


@numba.njit(cache=True, nogil=True)
def _count_lines(offsets, data, table, counts):  # type: ignore[no-untyped-def]  # numba infers
    kinds = table.ctypes.data
    for row in range(len(offsets) - 1):
        at, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        counts[row, _HASHES], counts[row, _ELLIPSES] = _symbols(at, end)
        lines = bullets = trailing = 0
        while at < end:
            stop = line_end(at, end)
            lines += 1
            first = strip_left(at, stop, kinds)
            bullets += first < stop and (byte_at(first) == 45 or _is(first, stop, 0xA2))
            last = strip_right(first, stop, kinds)
            trailing += _ends_with_stops(first, last) or (last - first > 2 and _is(last - 3, last, 0xA6))
            at = after_break(stop, end)
        counts[row, _LINES], counts[row, _BULLETS], counts[row, _TRAILING] = lines, bullets, trailing


@numba.njit(cache=True, nogil=True)
def _symbols(at, end):  # type: ignore[no-untyped-def]  # numba infers
    """Count `#`, and ellipses as str.count does: three full stops each, or one character."""
    hashes = ellipses = stops = 0
    while at < end:
        byte = byte_at(at)
        if byte == 46:
            stops += 1
            if stops == 3:
                ellipses, stops = ellipses + 1, 0
        else:
            stops = 0
            hashes += byte == 35
            ellipses += byte == 0xE2 and _is(at, end, 0xA6)
        at += 1
    return hashes, ellipses


@numba.njit(cache=True, nogil=True)
def _is(at, end, last):  # type: ignore[no-untyped-def]  # numba infers
    """Whether a character U+2000 + (last & 0x3F) stands here: 0xA2 is a bullet, 0xA6 an ellipsis."""
    return end - at > 2 and byte_at(at) == 0xE2 and byte_at(at + 1) == 0x80 and byte_at(at + 2) == last


@numba.njit(cache=True, nogil=True)
def _ends_with_stops(begin, end):  # type: ignore[no-untyped-def]  # numba infers
    return end - begin > 2 and byte_at(end - 1) == 46 and byte_at(end - 2) == 46 and byte_at(end - 3) == 46
