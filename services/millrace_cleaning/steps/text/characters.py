"""What kind of character each code point is, as one table that kernels look into."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from millrace_cleaning.steps.text.punctuation import SYMBOLS

UInt16s = npt.NDArray[np.uint16]

SPACE, ALPHA, LOWER, UPPER, DIGIT, SYMBOL = 1, 2, 4, 8, 16, 32
"""str.isspace; str.isalpha; letters that are not upper case, and that are not lower case (both of a script without case);
0 to 9; one of Gopher's symbols."""
BREAK, AFFIX, OPENING, QUOTE, ICON, CLOSES, PUNCTUATION, CURRENCY = 64, 128, 256, 512, 1024, 2048, 4096, 8192
"""Where str.splitlines splits; what is a word of its own before or after another, or only before; quotation marks; pictures;
what ends a sentence; Unicode's category P; signs of currencies."""
WORD = 16384
"""str.isalnum, and the underscore: what `\\w` matches."""

_AFFIXES = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_OPENINGS = "§%=—–"
_CURRENCIES = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_CLOSERS = "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡。"

_ASSIGNED = (*range(0x33480), *range(0xE0000, 0xE0200))
"""Beyond these Unicode 17 has private characters alone."""


@cache
def classes() -> UInt16s:
    """Return a table of 0x110000 sets of the bits above, by code point. Takes 0.2 s, once in a process."""
    table = np.zeros(0x110000, dtype=np.uint16)
    for code in _ASSIGNED:
        table[code] = _bits_of(chr(code))
    for characters, bit in (
        (SYMBOLS, SYMBOL), (_BREAKS, BREAK), (_AFFIXES + _QUOTES, AFFIX), (_OPENINGS, OPENING), (_QUOTES, QUOTE),
        (_CLOSERS, CLOSES), (_CURRENCIES, CURRENCY), ("_", WORD),
    ):  # fmt: skip
        table[[ord(c) for c in set(characters)]] |= bit
    return table


def _bits_of(character: str) -> int:
    bits = SPACE if character.isspace() else 0
    if character.isalpha():
        bits |= ALPHA | (0 if character.isupper() else LOWER) | (0 if character.islower() else UPPER)
    if character.isalnum():
        bits |= WORD
    if "0" <= character <= "9":
        bits |= DIGIT
    category = unicodedata.category(character)
    if category[0] == "P":
        bits |= PUNCTUATION
    if category == "So":
        bits |= ICON | AFFIX
    return bits
