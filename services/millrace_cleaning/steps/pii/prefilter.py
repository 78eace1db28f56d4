"""Where in a column's bytes personal data could stand. Compiled: text without candidates never becomes a Python string.

A pass over the bytes looks for signs (an @, enough digits, a long mixed token ...) and cuts a window around each, wide enough
for what stands there and for the words before it. Windows of a row that touch are one. The patterns decide; what matters
here is that no window is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

AT, SIX, EIGHT, TEN, PLUS, DOTS, TOKEN, HEX, KEY, LINES, BIRTH = (1 << i for i in range(11))
"""Signs: an @; a cluster with so many digits; a + or 00 before them; three dots between them; a token of 15 characters that is no
word; colons or dots among hex digits; the head of a PEM block; the << of a passport; a word about birth."""

MARGIN = 48
"""Bytes on either side of a sign that its window has too: for words before a number, and a date after `born`."""

_TOKEN, _DIGIT, _UPPER, _HEX, _GAP, _PART = 1, 2, 4, 8, 16, 32
_MAX_PEM = 8192
_MAX_LOCAL, _MAX_DOMAIN = 320, 256
_MAX_IP = 48
_AT_BYTE, _COLON, _DOT, _LESS, _HYPHEN, _BIG_B, _PLUS_BYTE, _ZERO, _UNDERSCORE = b"@:.<-B+0_"

Windows = npt.NDArray[np.int64]
"""Rows of (row, begin, end, signs); begin and end are positions in the data, in order and never overlapping."""
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_compiled = cast(Callable[[Callable[..., Any]], Callable[..., Any]], njit(cache=True, nogil=True))


def windows_of(data: Bytes, offsets: Offsets) -> Windows:
    """Return the windows of a string column whose row i is data[offsets[i]:offsets[i + 1]]."""
    found: Windows = _scan(data, offsets, _CLASSES, _BIRTH_WORDS)
    return found


def buffers_of(array: pa.Array) -> tuple[Bytes, Offsets]:
    """Return (data, offsets) of a string array, the data without copying it; offsets count from the data's begin."""
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    _, offsets, data = array.buffers()
    if offsets is None or not len(array):
        return np.frombuffer(b"", dtype=np.uint8), np.zeros(len(array) + 1, dtype=np.int64)
    ends = np.frombuffer(offsets, dtype=width)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data or b"", dtype=np.uint8)
    content.flags.writeable = False  # some of Arrow's buffers are, some are not, and kernels would be compiled for both
    return content, ends.astype(np.int64)


def _classes() -> Bytes:
    table = np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        char = chr(byte)
        if byte >= 128 or char in " .-/()+":
            table[byte] |= _GAP  # bytes beyond ASCII may be a hard space or hyphen
        if byte < 128 and (char.isalnum() or char in "_-"):
            table[byte] |= _TOKEN
        if byte < 128 and char.isdigit():
            table[byte] |= _DIGIT
        if byte < 128 and char.isupper():
            table[byte] |= _UPPER
        if char in "0123456789abcdefABCDEF":
            table[byte] |= _HEX
        if byte > 32 and char not in "<>\"'(),;":
            table[byte] |= _PART  # of an address with an @
    return table


_CLASSES = _classes()
_BIRTH_WORDS = np.array(
    [int.from_bytes(word, "big") for word in (
        b"born", b"birt", b"bday", b"dob\0", b"gebo", b"gebu", b"geb\0", b"nais", b"naci", b"fech", b"nato", b"nata", b"nasc",
        b"ur\0\0", b"urod",
    )],
    dtype=np.int64,
)  # fmt: skip
"""The first four letters, in lower case, of words about birth in the languages of the national ids."""


@_compiled
def _scan(data: Bytes, offsets: Offsets, classes: Bytes, birth_words: npt.NDArray[Any]) -> Windows:
    out = np.empty((64, 4), dtype=np.int64)
    num = np.int64(0)  # of plain literals, here and below, numba would compile `_add` once each
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        cluster, end = first, first - 9  # where tokens with digits side by side begin, and where the last of them ended
        digits = dots = plus = 0  # what that cluster has
        low, high = first, first  # the address around the last @
        judged = first  # hex digits up to here were looked at with an earlier colon
        i = first
        while i < last:
            byte = data[i]
            if classes[byte] & _TOKEN:
                begin = i
                num_digits = num_upper = 0
                while i < last and classes[data[i]] & _TOKEN:
                    num_digits += classes[data[i]] & _DIGIT != 0
                    num_upper += classes[data[i]] & _UPPER != 0
                    i += 1
                sign = _sign_of_token(data, begin, i - begin, num_digits, num_upper, birth_words)
                if num_digits:
                    if not _is_joined(data, end, begin, first, classes):
                        cluster, digits, dots, plus = begin, 0, 0, 0
                    elif begin - end == 1 and data[end] == _DOT:
                        dots += 1
                    digits += num_digits
                    plus |= PLUS * _is_plus(data, begin, first)
                    end = i
                    if digits >= 6 or dots >= 3:
                        much = SIX | EIGHT * (digits >= 8) | TEN * (digits >= 10) | DOTS * (dots >= 3)
                        out, num = _add(out, num, data, row, cluster - MARGIN, i + MARGIN, first, last, much | plus)
                if sign:
                    after = _MAX_PEM if sign & KEY else 3 * MARGIN if sign & BIRTH else MARGIN
                    out, num = _add(out, num, data, row, begin - MARGIN, i + after, first, last, sign)
                continue
            if byte == _AT_BYTE:
                if i >= high:
                    low = high = i
                    while low > first and i - low < _MAX_LOCAL and classes[data[low - 1]] & _PART:
                        low -= 1
                while high < last and high - i < _MAX_DOMAIN and classes[data[high]] & _PART:
                    high += 1
                out, num = _add(out, num, data, row, low - 8, high + 8, first, last, np.int64(AT))
            elif byte == _COLON and i >= judged:
                begin, judged, is_address = _hex_run(data, i, first, last, classes)
                if is_address:
                    out, num = _add(out, num, data, row, begin - MARGIN, judged + MARGIN, first, last, np.int64(HEX))
            elif byte == _DOT and i - first >= 4 and i + 9 < last and data[i + 5] == _DOT and _is_mac(data, i, classes):
                out, num = _add(out, num, data, row, i - MARGIN, i + MARGIN, first, last, np.int64(HEX))
            elif (
                byte == _LESS and i > first and i + 1 < last and data[i + 1] == _LESS and classes[data[i - 1]] & _TOKEN
            ):
                out, num = _add(out, num, data, row, i - 3 * MARGIN, i + 4 * MARGIN, first, last, np.int64(LINES))
            i += 1
    return out[:num]


@_compiled
def _sign_of_token(
    data: Bytes, begin: int, size: int, num_digits: int, num_upper: int, birth_words: npt.NDArray[Any]
) -> int:
    if size >= 10 and data[begin] == _HYPHEN and data[begin + 4] == _HYPHEN and data[begin + 5] == _BIG_B:  # -----BEGIN
        return KEY
    if size >= 15 and (num_digits or num_upper >= 6):
        return TOKEN
    if num_digits == 0 and size <= 24:
        part = begin
        for k in range(begin, begin + size + 1):  # of date_of_birth each word
            if k == begin + size or data[k] == _UNDERSCORE or data[k] == _HYPHEN:
                if _is_birth_word(data, part, k - part, birth_words):
                    return BIRTH
                part = k + 1
    return 0


@_compiled
def _is_joined(data: Bytes, end: int, begin: int, first: int, classes: Bytes) -> bool:
    """Whether at most three bytes of gap stand between two tokens of a row."""
    if end < first or begin - end > 3:
        return False
    for k in range(end, begin):  # noqa: SIM110  # compiled
        if not classes[data[k]] & _GAP:
            return False
    return True


@_compiled
def _is_plus(data: Bytes, begin: int, first: int) -> bool:
    """Whether a token with digits begins as international numbers do."""
    if begin > first and data[begin - 1] == _PLUS_BYTE:
        return True
    if begin > first + 1 and data[begin - 2] == _PLUS_BYTE:
        return True
    return begin + 1 < len(data) and data[begin] == _ZERO and data[begin + 1] == _ZERO


@_compiled
def _hex_run(data: Bytes, colon: int, first: int, last: int, classes: Bytes) -> tuple[int, int, bool]:
    """Return begin and end of the hex digits and colons around a colon, and whether they may be an IPv6 or MAC address."""
    begin, end = colon, colon
    while begin > first and colon - begin < _MAX_IP and (classes[data[begin - 1]] & _HEX or data[begin - 1] == _COLON):
        begin -= 1
    while (
        end < last and end - colon < _MAX_IP and (classes[data[end]] & _HEX or data[end] == _COLON or data[end] == _DOT)
    ):
        end += 1
    if begin > first and classes[data[begin - 1]] & _TOKEN:  # the end of a name, as in BSSID:18:b1
        while begin < colon and data[begin] != _COLON:
            begin += 1
        begin += 1
    colons = doubles = 0
    for k in range(begin, end):
        colons += data[k] == _COLON
        doubles += k > begin and data[k] == _COLON and data[k - 1] == _COLON
    return begin, end, (colons >= 5 or (doubles > 0 and end - begin > 2))


@_compiled
def _add(
    out: Windows, num: int, data: Bytes, row: int, begin: int, end: int, first: int, last: int, sign: int
) -> tuple[Windows, int]:
    """Append a window, cut at the row's ends and between characters, or widen the last one if they touch."""
    begin, end = max(begin, first), min(end, last)
    while begin > first and data[begin] & 0xC0 == 0x80:
        begin -= 1
    while end < last and data[end] & 0xC0 == 0x80:
        end += 1
    while num and out[num - 1, 0] == row and begin <= out[num - 1, 2]:
        begin, end = min(begin, out[num - 1, 1]), max(end, out[num - 1, 2])
        sign |= out[num - 1, 3]
        num -= 1
    if num == len(out):
        larger = np.empty((2 * num, 4), dtype=np.int64)
        for k in range(num):  # for a slice's assignment numba would compile the words of an error, for a second
            larger[k, 0], larger[k, 1], larger[k, 2], larger[k, 3] = out[k, 0], out[k, 1], out[k, 2], out[k, 3]
        out = larger
    out[num, 0], out[num, 1], out[num, 2], out[num, 3] = row, begin, end, sign
    return out, num + 1


@_compiled
def _is_birth_word(data: Bytes, begin: int, size: int, words: npt.NDArray[Any]) -> bool:
    if size < 1 or size > 16:
        return False
    head = data[begin] | 0x20
    if size == 1:
        is_ne = head == 110 and begin + 2 < len(data) and data[begin + 1] == 0xC3 and data[begin + 2] | 0x20 == 0xA9
        return is_ne or (head == 98 and begin >= 2 and data[begin - 1] == _DOT and data[begin - 2] | 0x20 == 111)  # o.b
    if not (head == 98 or head == 100 or head == 102 or head == 103 or head == 110 or head == 117):  # b d f g n u
        return False
    packed = 0
    for k in range(4):
        packed = (packed << 8) | ((data[begin + k] | 0x20) if k < size else 0)
    for word in words:  # noqa: SIM110  # numba has no any()
        if word == packed:
            return True
    return False


@_compiled
def _is_mac(data: Bytes, dot: int, classes: Bytes) -> bool:
    """Whether a dot, and the one five bytes on, stand among groups of four hex digits, as Cisco writes MAC addresses."""
    for k in range(-4, 10):  # noqa: SIM110  # compiled
        if k != 0 and k != 5 and not classes[data[dot + k]] & _HEX:
            return False
    return True
