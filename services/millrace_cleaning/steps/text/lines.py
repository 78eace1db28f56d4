"""Lines as str.splitlines has them, and what str.strip takes off, inside kernels. All places are addresses."""

from __future__ import annotations

import numba

from millrace_cleaning.steps.text.characters import SPACE
from millrace_cleaning.steps.text.memory import byte_at, kind_at


@numba.njit(cache=True, nogil=True)
def line_end(at: int, end: int) -> int:
    """Return where the line that begins at `at` ends: its break, or end."""
    while at < end:
        byte = byte_at(at)
        if byte < 0x1F:
            if 0x0A <= byte <= 0x0D or 0x1C <= byte <= 0x1E:
                return at
        elif byte >= 0xC2 and _wide_break(at, end):
            return at
        at += 1
    return end


@numba.njit(cache=True, nogil=True)
def after_break(at: int, end: int) -> int:
    """Return where the next line begins, `at` being a break or end."""
    if at >= end:
        return end
    byte = byte_at(at)
    if byte == 0x0D and at + 1 < end and byte_at(at + 1) == 0x0A:
        return at + 2
    return at + (1 if byte < 0x80 else _wide_break(at, end))


@numba.njit(cache=True, nogil=True)
def _wide_break(at, end):  # type: ignore[no-untyped-def]  # numba infers
    """How many bytes of U+0085, U+2028 or U+2029 there are here, or 0."""
    byte = byte_at(at)
    if byte == 0xC2 and at + 1 < end and byte_at(at + 1) == 0x85:
        return 2
    if byte == 0xE2 and at + 2 < end and byte_at(at + 1) == 0x80 and byte_at(at + 2) in (0xA8, 0xA9):
        return 3
    return 0


@numba.njit(cache=True, nogil=True)
def strip_left(at: int, end: int, table: int) -> int:
    """Return where the first character that is no space begins, or end."""
    while at < end:
        width = width_at(at, end)
        if not kind_at(table, code_at(at, width)) & SPACE:
            return at
        at += width
    return end


@numba.njit(cache=True, nogil=True)
def strip_right(begin: int, at: int, table: int) -> int:
    """Return where the last character before `at` that is no space ends, or begin."""
    while at > begin:
        first = last_character(begin, at)
        if not kind_at(table, code_at(first, at - first)) & SPACE:
            return at
        at = first
    return begin


@numba.njit(cache=True, nogil=True)
def last_character(begin: int, at: int) -> int:
    """Return where the character that ends at `at` begins."""
    first = at - 1
    while first > begin and at - first < 4 and byte_at(first) & 0xC0 == 0x80:
        first -= 1
    return first


@numba.njit(cache=True, nogil=True)
def width_at(at: int, end: int) -> int:
    """Return how many bytes the character here has."""
    byte = byte_at(at)
    width = 1 if byte < 0x80 else (2 if byte < 0xE0 else (3 if byte < 0xF0 else 4))
    return min(width, end - at)


@numba.njit(cache=True, nogil=True)
def code_at(at: int, width: int) -> int:
    """Return the code point of the character of width bytes here, or 0 for what is no UTF-8."""
    code = byte_at(at) & (0x7F if width == 1 else 0x7F >> width)
    for i in range(1, width):
        code = code << 6 | (byte_at(at + i) & 0x3F)
    return code if code < 0x110000 else 0


@numba.njit(cache=True, nogil=True)
def count_characters(at: int, end: int) -> int:
    """Return how many characters begin between two addresses."""
    num = 0
    while at < end:
        num += byte_at(at) & 0xC0 != 0x80
        at += 1
    return num
