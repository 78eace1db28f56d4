"""One split of a column of text into words and lines, which all rules share.

Words are those of spaCy's English tokenizer: runs between spaces, from whose ends punctuation is taken off piece by piece, and
which are split inside at dashes, slashes and the like unless they are addresses. Of its exceptions, abbreviations and
contractions are known; emoticons, and times such as 10am, are not. No Python object is made for a word: it is a 64-bit hash and
a mark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.steps.findings import Memo
from millrace_cleaning.steps.text import tokens
from millrace_cleaning.steps.text.buffers import Bytes, Ints, Texts, texts_of
from millrace_cleaning.steps.text.characters import (
    ALPHA,
    BREAK,
    CLOSES,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    UInt16s,
    classes,
)
from millrace_cleaning.steps.text.hashing import hash_bytes
from millrace_cleaning.steps.text.memory import kind_at

UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]

LENGTH = (1 << 24) - 1
HAS_LETTER, IS_SYMBOL, IS_CLOSER, IS_PUNCTUATION, OPENS_RUN, OPENS_LINE = (1 << b for b in range(24, 30))
"""A word's mark: its length in characters (saturated), and whether it has a letter, is made of Gopher's symbols alone, ends a
sentence, is made of punctuation alone, is the first after a space, is the first of a line (as str.splitlines has it)."""

IS_BLANK = 1
"""A line's mark: it has nothing but spaces."""


@dataclass(frozen=True, slots=True)
class Split:
    """Words and lines of a column of text.

    Attributes:
        texts: The column's buffers.
        chars: (rows,): length in characters.
        word_starts: (rows + 1,): row i has the words word_starts[i] to word_starts[i + 1].
        word_hashes, word_marks: (words,).
        line_starts: (rows + 1,): as word_starts. An empty row has one empty line, as str.split has it.
        line_ends: (lines,): where in the bytes of texts a line ends; the next begins after its line feed.
        line_chars, line_hashes, line_marks: (lines,).
    """

    texts: Texts
    chars: Ints
    word_starts: Ints
    word_hashes: UInt64s
    word_marks: UInt32s
    line_starts: Ints
    line_ends: Ints
    line_chars: Ints
    line_hashes: UInt64s
    line_marks: Bytes


def split_of(array: pa.Array, memo: Memo) -> Split:
    """Return the words and lines of a column, split once for all rules that ask."""
    return memo.get("text.split", array, split)


def split(array: pa.Array) -> Split:
    """Split a column of text."""
    texts = texts_of(array)
    return Split(texts, *_split(texts.offsets, texts.data, classes(), tokens.whole_words()))


@numba.njit(cache=True, nogil=True)
def decode(data: Bytes, begin: int, end: int, table: UInt16s, kinds: UInt16s, places: UInt32s) -> int:
    """Write the kind of each character, and its place behind begin, and return how many there are. Bad UTF-8 does no harm."""
    num, at = 0, begin
    while at < end:
        places[num] = at - begin
        byte = np.int64(data[at])
        if byte < 0x80:
            kinds[num] = table[byte]
            at += 1
        else:
            width = 2 if byte < 0xE0 else (3 if byte < 0xF0 else 4)
            code = byte & (0x7F >> width)
            for i in range(1, width):
                code = code << 6 | (np.int64(data[at + i]) & 0x3F if at + i < end else 0)
            kinds[num] = table[code] if code < len(table) else 0
            at = min(at + width, end)
        num += 1
    places[num] = end - begin
    return num


@numba.njit(cache=True, nogil=True)
def mark_of(kinds: int, lo: int, hi: int) -> int:
    """Return the mark of the word that the characters lo to hi make; kinds is an address."""
    some, every = 0, 0xFFFF
    for i in range(lo, hi):
        kind = kind_at(kinds, i)
        some |= kind
        every &= kind
    mark = min(hi - lo, LENGTH)
    if some & ALPHA:
        mark |= HAS_LETTER
    if every & SYMBOL:
        mark |= IS_SYMBOL
    if every & CLOSES and hi - lo == 1:
        mark |= IS_CLOSER
    if every & PUNCTUATION:
        mark |= IS_PUNCTUATION
    return mark


@numba.njit(cache=True, nogil=True)
def _split(offsets, data, table, whole):  # type: ignore[no-untyped-def]  # numba infers
    num_rows = len(offsets) - 1
    longest = 0
    for row in range(num_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    kinds, places = np.empty(longest + 1, dtype=np.uint16), np.empty(longest + 1, dtype=np.uint32)
    ends = np.empty(2 * longest + 2, dtype=np.int64)  # its second half is scratch
    chars = np.empty(num_rows, dtype=np.int64)
    word_starts, line_starts = np.zeros(num_rows + 1, dtype=np.int64), np.zeros(num_rows + 1, dtype=np.int64)
    size = offsets[num_rows] - offsets[0]
    hashes, marks = np.empty(size // 4 + 64, dtype=np.uint64), np.empty(size // 4 + 64, dtype=np.uint32)
    line_ends = np.empty(size // 32 + 64, dtype=np.int64)
    line_chars = np.empty(size // 32 + 64, dtype=np.int64)
    line_hashes = np.empty(size // 32 + 64, dtype=np.uint64)
    line_marks = np.empty(size // 32 + 64, dtype=np.uint8)
    kinds_at, places_at, ends_at = kinds.ctypes.data, places.ctypes.data, ends.ctypes.data
    tails_at, whole_at = ends_at + 8 * (longest + 1), whole.ctypes.data
    last = data.ctypes.data + len(data)
    words = lines = 0
    for row in range(num_rows):
        base = offsets[row]
        text = data.ctypes.data + base
        num = decode(data, base, offsets[row + 1], table, kinds, places)
        chars[row] = num
        i, line, opens, seen_in_line = np.int64(0), 0, OPENS_LINE, False  # of a plain 0 `cut` would be compiled twice
        while i <= num:
            if i == num or kinds[i] & SPACE:
                if i == num or data[base + places[i]] == 10:
                    if lines == len(line_ends):
                        line_ends, line_chars = _grown(line_ends), _grown(line_chars)
                        line_hashes, line_marks = _grown(line_hashes), _grown(line_marks)
                    line_ends[lines] = base + places[i]
                    line_chars[lines] = i - line
                    line_hashes[lines] = hash_bytes(text + places[line], text + places[i], last)
                    line_marks[lines] = 0 if seen_in_line else IS_BLANK
                    lines += 1
                    line, seen_in_line = i + 1, False
                if i < num and kinds[i] & BREAK:
                    opens = OPENS_LINE
                i += 1
                continue
            j, some, every = i, 0, ALPHA
            while j < num and not kinds[j] & SPACE:
                some |= np.int64(kinds[j])
                every &= np.int64(kinds[j])
                j += 1
            seen_in_line = True
            if words + j - i > len(hashes):
                hashes, marks = _grown_to(hashes, words + j - i), _grown_to(marks, words + j - i)
            flags = opens | OPENS_RUN
            if every and j - i != 6:  # 6: "cannot" is two words
                hashes[words] = hash_bytes(text + places[i], text + places[j], last)
                marks[words] = min(j - i, LENGTH) | HAS_LETTER | flags
                words += 1
            else:
                num_pieces = tokens.cut(text, kinds_at, places_at, i, j, some, whole_at, ends_at, tails_at)
                lo = i
                for piece in range(num_pieces):
                    hi = ends[piece]
                    hashes[words] = hash_bytes(text + places[lo], text + places[hi], last)
                    marks[words] = mark_of(kinds_at, lo, hi) | flags
                    words += 1
                    lo, flags = hi, 0
            i, opens = j, 0
        word_starts[row + 1], line_starts[row + 1] = words, lines
    return (
        chars, word_starts, hashes[:words], marks[:words],
        line_starts, line_ends[:lines], line_chars[:lines], line_hashes[:lines], line_marks[:lines],
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _grown(array):  # type: ignore[no-untyped-def]  # numba infers
    return _grown_to(array, len(array) + 1)


@numba.njit(cache=True, nogil=True)
def _grown_to(array, num):  # type: ignore[no-untyped-def]  # numba infers
    larger = np.empty(max(num, len(array) * 3 // 2), dtype=array.dtype)
    for i in range(len(array)):  # for a slice's assignment numba would compile the words of an error, for two seconds
        larger[i] = array[i]
    return larger
