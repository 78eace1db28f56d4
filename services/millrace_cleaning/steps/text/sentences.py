"""Counting sentences: one begins after a full stop, a question mark or an exclamation mark, at the next word.

Source:
    spaCy's sentencizer.
"""

from __future__ import annotations

import numba
import numpy as np

from millrace_cleaning.steps.text import tokens
from millrace_cleaning.steps.text.characters import SPACE
from millrace_cleaning.steps.text.memory import int64_at, kind_at
from millrace_cleaning.steps.text.words import IS_CLOSER, IS_PUNCTUATION, decode, mark_of


@numba.njit(cache=True, nogil=True)
def count_in_marks(marks, begin, end):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many sentences the words begin to end make."""
    num, is_over = 0, True
    for word in range(begin, end):
        num, is_over = follow_word(num, is_over, marks[word])
    return num


@numba.njit(cache=True, nogil=True)
def count_in_bytes(data, begin, end, table, whole, kinds, places, ends):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many sentences data[begin:end] makes. kinds, places and ends are scratch, ends for two numbers a character."""
    size = decode(data, begin, end, table, kinds, places)
    text, kinds_at, places_at, ends_at = (
        data.ctypes.data + begin,
        kinds.ctypes.data,
        places.ctypes.data,
        ends.ctypes.data,
    )
    num, is_over, i = 0, True, np.int64(0)  # of a plain 0 `cut` would be compiled twice
    while i < size:
        if kind_at(kinds_at, i) & SPACE:
            i += 1
            continue
        j, some = i, 0
        while j < size and not kind_at(kinds_at, j) & SPACE:
            some |= kind_at(kinds_at, j)
            j += 1
        tails = ends_at + 8 * (len(ends) // 2)
        lo = i
        for piece in range(tokens.cut(text, kinds_at, places_at, i, j, some, whole.ctypes.data, ends_at, tails)):
            hi = int64_at(ends_at, piece)
            num, is_over = follow_word(num, is_over, mark_of(kinds_at, lo, hi))
            lo = hi
        i = j
    return num


@numba.njit(cache=True, nogil=True)
def follow_word(num, is_over, mark):  # type: ignore[no-untyped-def]  # numba infers
    """Return the number of sentences with one more word, and whether the last of them is over."""
    if num == 0 or (is_over and not mark & (IS_PUNCTUATION | IS_CLOSER)):
        return num + 1, mark & IS_CLOSER != 0
    return num, is_over or mark & IS_CLOSER != 0
