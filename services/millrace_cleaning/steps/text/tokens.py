"""Cutting a run of characters between spaces into words, as spaCy's English tokenizer does: affixes, then infixes.

Source:
    spaCy 3.8, tokenizer.pyx and lang/punctuation.py; its rules as code, without regular expressions.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import numpy.typing as npt

from millrace_cleaning.steps.text.addresses import is_address
from millrace_cleaning.steps.text.characters import (
    AFFIX,
    ALPHA,
    CURRENCY,
    DIGIT,
    ICON,
    LOWER,
    OPENING,
    PUNCTUATION,
    QUOTE,
    UPPER,
)  # fmt: skip
from millrace_cleaning.steps.text.hashing import hash_bytes
from millrace_cleaning.steps.text.memory import byte_at, first_byte, int64_at, kind_at, place_at, put_int64, uint64_at

WHOLE = (
    "a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. "
    "Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. "
    "Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. "
    "N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis."
)
"""Abbreviations that keep their full stop."""

UNITS = "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %"
"""Words of their own behind a number."""

_NUM_WHOLE = len((WHOLE + " " + UNITS).split())
_STOP, _APOSTROPHE, _HYPHEN, _PLUS = 46, 39, 45, 43
UInt64s = npt.NDArray[np.uint64]


@cache
def whole_words() -> UInt64s:
    """Hashes of WHOLE and UNITS, ascending."""
    return np.sort(np.array([_hash(word) for word in (WHOLE + " " + UNITS).split()], dtype=np.uint64))


def _hash(word: str) -> np.uint64:
    content = np.frombuffer(word.encode(), dtype=np.uint8)
    return np.uint64(hash_bytes(content.ctypes.data, content.ctypes.data + len(content), 0))


@numba.njit(cache=True, nogil=True)
def cut(text, kinds, places, lo, hi, some, whole, ends, tails):  # type: ignore[no-untyped-def]  # numba infers
    """Write where each word of the characters lo to hi ends, and return how many words there are.

    first_byte(text, places, i) is the first byte of character i, kind_at(kinds, i) its kind; tails is scratch.
    """
    num = num_tails = np.int64(0)  # of a plain 0, what it is passed to would be compiled once more
    if not some & (DIGIT | QUOTE) and kind_at(kinds, lo) & ALPHA and kind_at(kinds, hi - 1) & ALPHA:
        return _inside(text, kinds, places, lo, hi, ends, num)
    while lo < hi and not _is_whole(text, places, lo, hi, whole):
        before = _prefix(text, kinds, places, lo, hi)
        if before and before < hi - lo and _is_whole(text, places, lo + before, hi, whole):
            lo += before
            put_int64(ends, num, lo)
            num += 1
            break
        after = _suffix(text, kinds, places, lo + before, hi, whole)
        if after and after < hi - lo and _is_whole(text, places, lo, hi - after, whole):
            put_int64(tails, num_tails, hi)
            num_tails += 1
            hi -= after
            break
        if before:
            lo += before
            put_int64(ends, num, lo)
            num += 1
        if after:
            put_int64(tails, num_tails, hi)
            num_tails += 1
            hi -= after
        if not before and not after:
            break
    if lo < hi and _is_whole(text, places, lo, hi, whole):
        put_int64(ends, num, hi)
        num += 1
    elif lo < hi:
        num = _inside(text, kinds, places, lo, hi, ends, num)
    for i in range(num_tails):
        put_int64(ends, num + i, int64_at(tails, num_tails - 1 - i))
    return num + num_tails


@numba.njit(cache=True, nogil=True)
def _is_whole(text, places, lo, hi, whole):  # type: ignore[no-untyped-def]  # numba infers
    """Whether nothing is taken off: an abbreviation, or one letter with a full stop."""
    if hi - lo < 2 or hi - lo > 7 or first_byte(text, places, hi - 1) != _STOP:
        return False
    first = first_byte(text, places, lo)
    if hi - lo == 2:
        return 97 <= first <= 122
    return _is_known(hash_bytes(place_at(text, places, lo), place_at(text, places, hi), 0), whole)


@numba.njit(cache=True, nogil=True)
def _is_known(value, whole):  # type: ignore[no-untyped-def]  # numba infers
    """Whether a word's hash is among those of WHOLE and UNITS."""
    low, high = 0, _NUM_WHOLE
    while low < high:
        middle = (low + high) >> 1
        if uint64_at(whole + 8 * middle) < value:
            low = middle + 1
        else:
            high = middle
    return low < _NUM_WHOLE and uint64_at(whole + 8 * low) == value


@numba.njit(cache=True, nogil=True)
def _prefix(text, kinds, places, lo, hi):  # type: ignore[no-untyped-def]  # numba infers
    if kind_at(kinds, lo) & (AFFIX | OPENING | CURRENCY):
        return 1
    byte = first_byte(text, places, lo)
    if byte == _PLUS and (lo + 1 == hi or not kind_at(kinds, lo + 1) & DIGIT):
        return 1
    if byte == _STOP:
        end = lo + 1
        while end < hi and first_byte(text, places, end) == _STOP:
            end += 1
        return end - lo if end - lo > 1 else 0
    return 0


@numba.njit(cache=True, nogil=True)
def _suffix(text, kinds, places, lo, hi, whole):  # type: ignore[no-untyped-def]  # numba infers
    if lo >= hi:
        return 0
    last = kind_at(kinds, hi - 1)
    byte = first_byte(text, places, hi - 1)
    previous = kind_at(kinds, hi - 2) if hi - lo > 1 else 0
    if (byte == 115 or byte == 83) and previous & QUOTE and _is_apostrophe(place_at(text, places, hi - 2)):
        return 2
    if last & AFFIX or (last & OPENING and last & PUNCTUATION and byte >= 0x80 and byte != 0xC2):
        return 1
    if previous & DIGIT and (byte == _PLUS or last & CURRENCY):
        return 1
    if byte == _STOP:
        begin = hi - 1
        while begin > lo and first_byte(text, places, begin - 1) == _STOP:
            begin -= 1
        if hi - begin > 1:
            return hi - begin
        if (previous & (DIGIT | AFFIX) and not previous & ICON) or (previous & LOWER):
            return 1
        if hi - lo > 1 and first_byte(text, places, hi - 2) in (37, _PLUS, _HYPHEN):
            return 1
        return 1 if hi - lo > 2 and previous & UPPER and kind_at(kinds, hi - 3) & UPPER else 0
    if last & ALPHA or byte == 37:
        begin = hi - 1
        while begin > lo and hi - begin < 5 and not kind_at(kinds, begin - 1) & DIGIT:
            begin -= 1
        if begin > lo and kind_at(kinds, begin - 1) & DIGIT:
            known = _is_known(hash_bytes(place_at(text, places, begin), place_at(text, places, hi), 0), whole)
            return hi - begin if known else 0
    return 0


@numba.njit(cache=True, nogil=True)
def _is_apostrophe(at):  # type: ignore[no-untyped-def]  # numba infers
    return byte_at(at) == _APOSTROPHE or (byte_at(at) == 0xE2 and byte_at(at + 1) == 0x80 and byte_at(at + 2) == 0x99)


@numba.njit(cache=True, nogil=True)
def _inside(text, kinds, places, lo, hi, ends, num):  # type: ignore[no-untyped-def]  # numba infers
    """Cut at contractions or infixes."""
    at = _contraction(text, kinds, places, lo, hi)
    if at:
        put_int64(ends, num, at)
        put_int64(ends, num + 1, hi)
        return num + 2
    first, i, is_checked = lo, lo + 1, False
    while i < hi:
        width = _infix(text, kinds, places, i, hi)
        if width and not is_checked:
            is_checked = True
            if is_address(place_at(text, places, lo), place_at(text, places, hi)):
                break
        if not width:
            i += 1
            continue
        if i > first:
            put_int64(ends, num, i)
            num += 1
        put_int64(ends, num, i + width)
        num += 1
        i += width
        first = i
    if first < hi:
        put_int64(ends, num, hi)
        num += 1
    return num


@numba.njit(cache=True, nogil=True)
def _contraction(text, kinds, places, lo, hi):  # type: ignore[no-untyped-def]  # numba infers
    """Return where the second word of don't, I'm, you're, we've, it'll, he'd or cannot begins, or 0."""
    size = hi - lo
    end = place_at(text, places, hi)
    if size == 6 and byte_at(end - 6) | 32 == 99 and byte_at(end - 5) == 97 and byte_at(end - 4) == 110:
        return lo + 3 if byte_at(end - 3) == 110 and byte_at(end - 2) == 111 and byte_at(end - 1) == 116 else 0
    if size < 3:
        return 0
    last, previous = byte_at(end - 1), byte_at(end - 2)
    if (
        kind_at(kinds, hi - 2) & QUOTE
        and _is_apostrophe(place_at(text, places, hi - 2))
        and kind_at(kinds, hi - 3) & ALPHA
    ):
        if last == 116 and size > 3 and first_byte(text, places, hi - 3) == 110:
            return hi - 3
        return hi - 2 if last == 109 or last == 100 else 0
    if size > 3 and kind_at(kinds, hi - 3) & QUOTE and kind_at(kinds, hi - 4) & ALPHA:
        is_ending = (last == 101 and (previous == 114 or previous == 118)) or (last == 108 and previous == 108)
        if is_ending and _is_apostrophe(place_at(text, places, hi - 3)):
            return hi - 3
    return 0


@numba.njit(cache=True, nogil=True)
def _infix(text, kinds, places, i, hi):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many characters at i are a word of their own inside a run that ends at hi."""
    kind = kind_at(kinds, i)
    if kind & ALPHA:
        return 0
    byte = first_byte(text, places, i)
    if byte == _STOP:
        end = i + 1
        while end < hi and first_byte(text, places, end) == _STOP:
            end += 1
        if end - i > 1:
            return end - i
    if kind & ICON or (byte == 0xE2 and kind & AFFIX and _is_ellipsis(place_at(text, places, i))):
        return 1
    if i + 1 >= hi:
        return 0
    before, after = kind_at(kinds, i - 1), kind_at(kinds, i + 1)
    follows_figure = byte in (_PLUS, _HYPHEN, 42, 94) and before & DIGIT
    if follows_figure and (after & DIGIT or first_byte(text, places, i + 1) == _HYPHEN):
        return 1
    if byte == _STOP:
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    if byte == 44:
        return 1 if before & ALPHA and after & ALPHA else 0
    if not before & (ALPHA | DIGIT):
        return 0
    if byte in (58, 60, 61, 62, 47):
        return 1 if after & ALPHA else 0
    if byte == 126 or (byte == 0xE2 and kind & OPENING) or byte == _HYPHEN:
        end, most = i + 1, 1 if byte == 126 else (3 if byte == _HYPHEN else 2)
        while end < hi and end - i < most and _same(place_at(text, places, i), place_at(text, places, end)):
            end += 1
        return end - i if end < hi and kind_at(kinds, end) & ALPHA else 0
    return 0


@numba.njit(cache=True, nogil=True)
def _is_ellipsis(at):  # type: ignore[no-untyped-def]  # numba infers
    return byte_at(at) == 0xE2 and byte_at(at + 1) == 0x80 and byte_at(at + 2) == 0xA6


@numba.njit(cache=True, nogil=True)
def _same(one, other):  # type: ignore[no-untyped-def]  # numba infers
    """Whether two dashes are the same character."""
    if byte_at(one) == _HYPHEN:
        return byte_at(other) == _HYPHEN
    return byte_at(other) == 0xE2 and byte_at(one + 1) == byte_at(other + 1) and byte_at(one + 2) == byte_at(other + 2)
