"""FineWeb's own rules: texts whose lines do not end like sentences, are short, repeat, or are many."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.judging import Judge, ratio
from millrace_cleaning.steps.text.lines import code_at, last_character
from millrace_cleaning.steps.text.repeats import longest_row, was_seen
from millrace_cleaning.steps.text.settings import FinewebQualityConfig
from millrace_cleaning.steps.text.words import IS_BLANK, Split, split_of

_LINES, _PUNCTUATED, _SHORT, _REPEATED = range(4)
"""What is counted of a row: lines that are not blank; those that end a sentence, and short ones; characters of those that
stood before."""


def apply(batch: pa.RecordBatch, config: FinewebQualityConfig, scratch: Scratch) -> Outcome:
    """Remove texts that look like lists, menus or pages of repeated lines."""
    split = split_of(batch.column(config.column), scratch.memo)
    counts = measure(split, config.terminals, config.short_line_chars)
    lines = counts[:, _LINES]
    newlines = np.maximum(np.diff(split.line_starts) - 1, 0)
    judge = Judge(config.column, split.texts.valid)
    punctuated = ratio(counts[:, _PUNCTUATED], lines)
    spared = punctuated == 0 if config.allow_no_punctuated_line else None
    judge.at_least("min_punctuated_lines", punctuated, config.min_punctuated_lines, spare=spared)
    judge.at_most("max_short_lines", ratio(counts[:, _SHORT], lines), config.max_short_lines)
    repeated = ratio(counts[:, _REPEATED], split.chars - newlines)
    judge.at_most("max_duplicate_line_chars", repeated, config.max_duplicate_line_chars)
    judge.at_most("max_newline_ratio", ratio(newlines, np.diff(split.word_starts)), config.max_newline_ratio)
    return Outcome(batch, judge.findings)


def measure(split: Split, terminals: str, short_line_chars: int) -> npt.NDArray[np.int64]:
    """Return the four counts of each row."""
    codes = np.array(sorted({ord(c) for c in terminals}), dtype=np.int64)
    counts = np.zeros((split.texts.num_rows, 4), dtype=np.int64)
    _count(
        split.texts.offsets, split.texts.data, split.line_starts, split.line_ends, split.line_chars, split.line_hashes,
        split.line_marks, codes, short_line_chars, counts,
    )  # fmt: skip
    return counts


@numba.njit(cache=True, nogil=True)
def _count(offsets, data, starts, ends, chars, hashes, marks, codes, short, counts):  # type: ignore[no-untyped-def]  # numba infers
    table = np.zeros(longest_row(starts), dtype=np.uint64)
    stamps = np.zeros(len(table), dtype=np.int32)
    for row in range(len(starts) - 1):
        lines = punctuated = few = repeated = 0
        mask = longest_row(starts[row : row + 2]) - 1
        begin = offsets[row]
        for line in range(starts[row], starts[row + 1]):
            if not marks[line] & IS_BLANK:
                lines += 1
                few += chars[line] <= short
                end = data.ctypes.data + ends[line]
                first = last_character(data.ctypes.data + begin, end)
                code = code_at(first, end - first)
                at = np.searchsorted(codes, code)
                punctuated += at < len(codes) and codes[at] == code
                if was_seen(table.ctypes.data, stamps.ctypes.data, mask, row + 1, hashes[line]):
                    repeated += chars[line]
            begin = ends[line] + 1
        counts[row, _LINES], counts[row, _PUNCTUATED] = lines, punctuated
        counts[row, _SHORT], counts[row, _REPEATED] = few, repeated
