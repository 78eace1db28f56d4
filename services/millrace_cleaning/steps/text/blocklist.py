"""Words and phrases that must not occur. Words are runs of letters, digits and underscores, whatever stands between."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.buffers import texts_of
from millrace_cleaning.steps.text.characters import WORD, classes
from millrace_cleaning.steps.text.hashing import follow, mix
from millrace_cleaning.steps.text.judging import Judge
from millrace_cleaning.steps.text.lines import code_at, width_at
from millrace_cleaning.steps.text.memory import int32_at, kind_at
from millrace_cleaning.steps.text.repeats import find, longest_row, was_seen
from millrace_cleaning.steps.text.settings import MAX_PHRASE_WORDS, BlocklistConfig

UInt64s = npt.NDArray[np.uint64]
_BEGIN = np.uint64(0x243F6A8885A308D3)


def apply(batch: pa.RecordBatch, config: BlocklistConfig, _scratch: Scratch) -> Outcome:
    """Remove texts with more than max_matches of the terms."""
    column = batch.column(config.column)
    texts = texts_of(column)
    if config.whole_words:
        hashes, sizes = _compiled(config.terms)
        counts = _count(texts.offsets, texts.data, classes(), lower_case(), hashes, sizes)
    else:
        pattern = "|".join(_escaped(term) for term in config.terms)
        found = pc.count_substring_regex(column, pattern, ignore_case=True)
        counts = found.fill_null(0).to_numpy(zero_copy_only=False)
    judge = Judge(config.column, texts.valid)
    judge.at_most("max_matches", counts, config.max_matches)
    return Outcome(batch, judge.findings)


@cache
def _compiled(terms: tuple[str, ...]) -> tuple[UInt64s, npt.NDArray[np.int64]]:
    """Return the terms' hashes, and which numbers of words they have, ascending.

    Raises:
        InvalidData: A term without a word in it, or of too many.
    """
    texts = texts_of(pa.array(terms, pa.string()))
    sizes, hashes = _terms(texts.offsets, texts.data, classes(), lower_case())
    for term, size in zip(terms, sizes, strict=True):
        if not 1 <= size <= MAX_PHRASE_WORDS:
            raise errors.InvalidData(
                f"The term {term!r} has {size} words; expected 1 to {MAX_PHRASE_WORDS}.",
                remedy="Say whole_words: false to look for the characters as they are.",
                field="with.steps.terms",
            )
    return np.unique(hashes), np.unique(sizes)


@cache
def lower_case() -> npt.NDArray[np.uint32]:
    """Return a table of 0x110000 code points: each in lower case, if that is one character."""
    table = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x1F000):
        lowered = chr(code).lower()
        if len(lowered) == 1:
            table[code] = ord(lowered)
    return table


def _escaped(term: str) -> str:
    """A term as a pattern of RE2 that matches it alone."""
    return "".join(c if c.isalnum() or not c.isascii() else f"\\x{{{ord(c):x}}}" for c in term)


@numba.njit(cache=True, nogil=True)
def _terms(offsets, data, kinds, lower):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many words each row has, and the hash of all of them in a row."""
    num_rows = len(offsets) - 1
    sizes, hashes = np.zeros(num_rows, dtype=np.int64), np.zeros(num_rows, dtype=np.uint64)
    for row in range(num_rows):
        at, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        total = _BEGIN
        while True:
            at, word = _next_word(at, end, kinds.ctypes.data, lower)
            if at < 0:
                break
            total = follow(total, word)
            sizes[row] += 1
        hashes[row] = mix(total)
    return sizes, hashes


@numba.njit(cache=True, nogil=True)
def _count(offsets, data, kinds, lower, terms, sizes):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many words of each row end a term."""
    num_rows = len(offsets) - 1
    table = np.zeros(longest_row(np.array([0, len(terms)])), dtype=np.uint64)
    stamps, mask = np.zeros(len(table), dtype=np.int32), len(table) - 1
    for term in terms:
        was_seen(table.ctypes.data, stamps.ctypes.data, mask, 1, term)
    most = sizes[-1]
    recent = np.zeros(most, dtype=np.uint64)  # the last words, in a ring
    counts = np.zeros(num_rows, dtype=np.int64)
    for row in range(num_rows):
        at, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        num = 0
        while True:
            at, word = _next_word(at, end, kinds.ctypes.data, lower)
            if at < 0:
                break
            recent[num % most] = word
            num += 1
            for size in sizes:
                if size > num:
                    break
                total = _BEGIN
                for i in range(num - size, num):
                    total = follow(total, recent[i % most])
                slot = find(table.ctypes.data, stamps.ctypes.data, mask, 1, mix(total))
                counts[row] += int32_at(stamps.ctypes.data, slot) == 1
    return counts


@numba.njit(cache=True, nogil=True)
def _next_word(at, end, kinds, lower):  # type: ignore[no-untyped-def]  # numba infers
    """Return where the next word ends and its hash; -1 if there is none."""
    total, is_in = _BEGIN, False
    while at < end:
        width = width_at(at, end)
        code = code_at(at, width)
        if kind_at(kinds, code) & WORD:
            total, is_in = follow(total, np.uint64(lower[code])), True
        elif is_in:
            return at, mix(total)
        at += width
    return (end if is_in else -1), mix(total)
