"""Gopher's repetition rules: lines, paragraphs and n-grams of words that repeat.

N-grams are equal if their words are; datatrove compares them joined, without spaces, so that "a bc" repeats "ab c".
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.characters import classes
from millrace_cleaning.steps.text.hashing import follow, hash_bytes
from millrace_cleaning.steps.text.judging import Judge, ratio
from millrace_cleaning.steps.text.lines import count_characters, strip_left, strip_right
from millrace_cleaning.steps.text.memory import byte_at, int32_at, int64_at, put_int32, put_int64, put_uint64, uint64_at
from millrace_cleaning.steps.text.repeats import find, longest_row, was_seen
from millrace_cleaning.steps.text.settings import GopherRepetitionConfig
from millrace_cleaning.steps.text.words import LENGTH, Split, split_of

Ints = npt.NDArray[np.int64]

_LINES, _SAME_LINES, _LINE_CHARS, _PARAGRAPHS, _SAME_PARAGRAPHS, _PARAGRAPH_CHARS = range(6)
"""What is counted of a row: lines, those that stood before, and their characters; the same of paragraphs."""


def apply(batch: pa.RecordBatch, config: GopherRepetitionConfig, scratch: Scratch) -> Outcome:
    """Remove texts that repeat themselves."""
    split = split_of(batch.column(config.column), scratch.memo)
    counts = measure_lines(split)
    judge = Judge(config.column, split.texts.valid)
    lines, paragraphs = counts[:, _LINES], counts[:, _PARAGRAPHS]
    judge.at_most("max_duplicate_lines", ratio(counts[:, _SAME_LINES], lines), config.max_duplicate_lines)
    judge.at_most(
        "max_duplicate_line_chars", ratio(counts[:, _LINE_CHARS], split.chars), config.max_duplicate_line_chars
    )
    judge.at_most(
        "max_duplicate_paragraphs", ratio(counts[:, _SAME_PARAGRAPHS], paragraphs), config.max_duplicate_paragraphs
    )
    judge.at_most(
        "max_duplicate_paragraph_chars",
        ratio(counts[:, _PARAGRAPH_CHARS], split.chars),
        config.max_duplicate_paragraph_chars,
    )
    tops, repeats = tuple(config.max_top_ngram_chars), tuple(config.max_duplicate_ngram_chars)
    top, repeated = measure_ngrams(split, tops, repeats)
    for i, size in enumerate(tops):
        judge.at_most(f"max_top_ngram_chars.{size}", ratio(top[:, i], split.chars), config.max_top_ngram_chars[size])
    for i, size in enumerate(repeats):
        limit = config.max_duplicate_ngram_chars[size]
        judge.at_most(f"max_duplicate_ngram_chars.{size}", ratio(repeated[:, i], split.chars), limit)
    return Outcome(batch, judge.findings)


def measure_lines(split: Split) -> Ints:
    """Return the six counts of each row."""
    counts = np.zeros((split.texts.num_rows, 6), dtype=np.int64)
    _count_lines(
        split.texts.offsets, split.texts.data, split.line_starts, split.line_chars, split.line_hashes, classes(), counts
    )
    return counts


def measure_ngrams(split: Split, tops: tuple[int, ...], repeats: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Return, for each row and size, the characters of the most frequent n-gram, and those of n-grams that stood before.

    Args:
        tops, repeats: Sizes in words, ascending.
    """
    sizes = np.array(sorted({*tops, *repeats}), dtype=np.int64)
    top = np.zeros((split.texts.num_rows, len(sizes)), dtype=np.int64)
    repeated = np.zeros((split.texts.num_rows, len(sizes)), dtype=np.int64)
    is_top, is_repeat = np.isin(sizes, np.array(tops)), np.isin(sizes, np.array(repeats))
    _count_ngrams(split.word_starts, split.word_hashes, split.word_marks, sizes, is_top, is_repeat, top, repeated)
    return top[:, is_top], repeated[:, is_repeat]


@numba.njit(cache=True, nogil=True)
def _count_lines(offsets, data, starts, chars, hashes, classes_of, counts):  # type: ignore[no-untyped-def]  # numba infers
    table = np.zeros(longest_row(starts), dtype=np.uint64)
    stamps = np.zeros(len(table), dtype=np.int32)
    for row in range(len(starts) - 1):
        mask = longest_row(starts[row : row + 2]) - 1
        lines = same = same_chars = 0
        for line in range(starts[row], starts[row + 1]):
            # re.split("\n+") has an empty piece where a text begins or ends with line feeds, and none between.
            if chars[line] or line == starts[row] or line == starts[row + 1] - 1:
                lines += 1
                if was_seen(table.ctypes.data, stamps.ctypes.data, mask, 2 * row + 1, hashes[line]):
                    same += 1
                    same_chars += chars[line]
        counts[row, _LINES], counts[row, _SAME_LINES], counts[row, _LINE_CHARS] = lines, same, same_chars
        begin, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        begin = strip_left(begin, end, classes_of.ctypes.data)
        end = strip_right(begin, end, classes_of.ctypes.data)
        paragraphs = same = same_chars = 0
        while begin < end or not paragraphs:
            stop = _paragraph_end(begin, end)
            paragraphs += 1
            if was_seen(table.ctypes.data, stamps.ctypes.data, mask, 2 * row + 2, hash_bytes(begin, stop, end)):
                same += 1
                same_chars += count_characters(begin, stop)
            begin = stop
            while begin < end and byte_at(begin) == 10:
                begin += 1
        counts[row, _PARAGRAPHS], counts[row, _SAME_PARAGRAPHS] = paragraphs, same
        counts[row, _PARAGRAPH_CHARS] = same_chars


@numba.njit(cache=True, nogil=True)
def _paragraph_end(at, end):  # type: ignore[no-untyped-def]  # numba infers
    """Where the next two line feeds in a row are, or end."""
    while at + 1 < end:
        if byte_at(at + 1) != 10:
            at += 2
        elif byte_at(at) == 10:
            return at
        else:
            at += 1
    return end


@numba.njit(cache=True, nogil=True)
def _count_ngrams(starts, hashes, marks, sizes, is_top, is_repeat, top, repeated):  # type: ignore[no-untyped-def]  # numba infers
    """If no n-gram of a size repeats, none of a larger one does."""
    slots = longest_row(starts)
    table, stamps = np.zeros(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int32)
    tallies = np.zeros(slots, dtype=np.int64)  # of each n-gram: how often it stood, and where first
    grams = np.zeros(slots, dtype=np.uint64)
    ends = np.zeros(slots, dtype=np.int64)  # characters up to and with a word
    stamp = 0
    for row in range(len(starts) - 1):
        first, num = starts[row], starts[row + 1] - starts[row]
        mask = longest_row(starts[row : row + 2]) - 1
        total = 0
        for i in range(num):
            total += np.int64(marks[first + i]) & LENGTH
            ends[i] = total
            grams[i] = hashes[first + i]
        width, may_repeat = 1, True
        for s in range(len(sizes)):
            size = sizes[s]
            while width < size:  # grams of one more word
                for i in range(num - width):
                    grams[i] = follow(grams[i], hashes[first + i + width])
                width += 1
            count = num - size + 1
            if count < 1:
                break
            if is_top[s]:
                top[row, s] = ends[size - 1] + size - 1
            if not may_repeat:
                continue
            if is_top[s]:
                stamp += 1
                at, times = _most_frequent(
                    grams.ctypes.data, count, table.ctypes.data, stamps.ctypes.data, tallies.ctypes.data, mask, stamp
                )
                length = ends[at + size - 1] - (ends[at - 1] if at else 0) + size - 1
                top[row, s] = length * times
                may_repeat = times > 1
            if is_repeat[s] and may_repeat:
                stamp += 1
                at = 0
                while at < count:
                    if was_seen(table.ctypes.data, stamps.ctypes.data, mask, stamp, grams[at]):
                        repeated[row, s] += ends[at + size - 1] - (ends[at - 1] if at else 0)
                        at += size
                    else:
                        at += 1
                may_repeat = repeated[row, s] > 0


@numba.njit(cache=True, nogil=True)
def _most_frequent(grams, count, table, stamps, tallies, mask, stamp):  # type: ignore[no-untyped-def]  # numba infers
    """Return where the most frequent of count hashes stands first, and how often it stands; of several, the first."""
    best, best_at = 0, 0
    for i in range(count):
        value = uint64_at(grams + 8 * i)
        slot = find(table, stamps, mask, stamp, value)
        if int32_at(stamps, slot) == stamp:
            tally = int64_at(tallies, slot) + (1 << 32)
        else:
            put_int32(stamps, slot, stamp)
            put_uint64(table, slot, value)
            tally = (1 << 32) | i
        put_int64(tallies, slot, tally)
        times, at = tally >> 32, tally & 0xFFFFFFFF
        if times > best or (times == best and at < best_at):
            best, best_at = times, at
    return best_at, best
