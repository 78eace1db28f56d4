"""Which characters may need repair, as one table: a look at each byte tells rows that are surely well from those to look at."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

UInt32s = npt.NDArray[np.uint32]

CONTROL, INVISIBLE, LINE_END, COMPOSES, C1 = 1 << 28, 1 << 29, 1 << 30, 1 << 27, 1 << 26
"""Control characters; characters without width; ends of lines but LF; what NFC may change, alone or with what stands before
it; the C1 controls, which ftfy takes for Windows-1252."""
LEADS = (1 << 13) - 1
FOLLOWS = 13
"""Bit i: in charset i, the character is what UTF-8 begins a character with; bit 13 + i: what goes on with it."""

CHARSETS = (
    "latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac-roman", "cp437",
)  # fmt: skip
"""Those that ftfy undoes."""


@cache
def suspects() -> UInt32s:
    """Return a table of 0x110000 sets of the bits above, by code point."""
    table = np.zeros(0x110000, dtype=np.uint32)
    for i, charset in enumerate(CHARSETS):
        table[_decoded(range(0xC2, 0xF5), charset)] |= np.uint32(1 << i)
        table[_decoded(range(0x80, 0xC0), charset)] |= np.uint32(1 << FOLLOWS + i)
    for code in (0xC2, 0xC3):  # ftfy mends "Ã " whose second half was taken for a space
        table[code] |= np.uint32(1 << 12)
    table[0x20] |= np.uint32(1 << FOLLOWS + 12)
    table[0xFFFD] |= np.uint32(LEADS << FOLLOWS)  # a byte that was lost
    table[range(0x80, 0xA0)] |= np.uint32(C1)
    table[[*range(9), 0x0B, *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0)]] |= np.uint32(CONTROL)
    table[[*range(0x206A, 0x2070), *range(0xFFF9, 0xFFFD), 0xFFFE, 0xFFFF]] |= np.uint32(CONTROL)
    table[[0x200B, 0x2060, 0xFEFF]] |= np.uint32(INVISIBLE)
    table[[0x0D, 0x85, 0x2028, 0x2029]] |= np.uint32(LINE_END)
    table[_composing()] |= np.uint32(COMPOSES)
    return table


def _decoded(values: range, charset: str) -> list[int]:
    characters = (bytes([value]).decode(charset, errors="ignore") for value in values)
    return [ord(c) for c in characters if c] + (list(values) if charset != "cp437" else [])


def _composing() -> list[int]:
    """Characters that NFC changes, combines with what stands before them, or puts into another order."""
    found = set(range(0x1161, 0x1200))  # vowels and finals of Hangul
    for code in (*range(0x33480), *range(0xE0000, 0xE0200)):
        character = chr(code)
        if unicodedata.combining(character) or not unicodedata.is_normalized("NFC", character):
            found.add(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(int(parts[1], 16))
    return sorted(found)
