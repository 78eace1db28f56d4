"""Telling web addresses, mail addresses and file names from words that are joined by punctuation."""

from __future__ import annotations

import numba

from millrace_cleaning.steps.text.memory import byte_at

_COLON, _SLASH, _AT, _STOP, _HYPHEN, _UNDERSCORE = 58, 47, 64, 46, 45, 95


@numba.njit(cache=True, nogil=True)
def is_address(begin: int, end: int) -> bool:
    """Return whether the bytes from one address to another, which have no spaces, are [scheme://][user@]host.domain[:port][/path].

    Source:
        spaCy's URL_MATCH, without IP addresses in figures.
    """
    at = _after_scheme(begin, end)
    if _is_host_and_path(at, end):
        return True
    for sign in range(end - 1, at, -1):  # noqa: SIM110  # a path may have an @, too; numba knows no generators
        if byte_at(sign) == _AT and _is_host_and_path(sign + 1, end):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _is_host_and_path(at, end):  # type: ignore[no-untyped-def]  # numba infers
    stop, label = at, at
    last_label = at
    num_labels = 0
    while stop < end and _is_in_host(byte_at(stop)):
        if byte_at(stop) == _STOP:
            if not _is_label(label, stop):
                return False
            num_labels += 1
            label = last_label = stop + 1
        stop += 1
    if not num_labels or not _is_top_level(last_label, stop):
        return False
    if stop < end and byte_at(stop) == _COLON:
        digits = stop + 1
        while digits < end and 48 <= byte_at(digits) <= 57:
            digits += 1
        if not 2 <= digits - stop - 1 <= 5:
            return False
        stop = digits
    return bool(stop == end or byte_at(stop) in (_SLASH, 63, 35))


@numba.njit(cache=True, nogil=True)
def _after_scheme(begin, end):  # type: ignore[no-untyped-def]  # numba infers
    at = begin
    while at < end and (_is_letter_or_digit(byte_at(at)) or byte_at(at) in (_UNDERSCORE, 43, _HYPHEN, _STOP)):
        at += 1
    if (
        at - begin >= 2
        and at + 2 < end
        and byte_at(at) == _COLON
        and byte_at(at + 1) == _SLASH
        and byte_at(at + 2) == _SLASH
    ):
        return at + 3
    return begin


@numba.njit(cache=True, nogil=True)
def _is_letter_or_digit(byte):  # type: ignore[no-untyped-def]  # numba infers
    return 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57 or byte >= 0x80


@numba.njit(cache=True, nogil=True)
def _is_in_host(byte):  # type: ignore[no-untyped-def]  # numba infers
    return _is_letter_or_digit(byte) or byte in (_STOP, _HYPHEN, _UNDERSCORE)


@numba.njit(cache=True, nogil=True)
def _characters(begin, end):  # type: ignore[no-untyped-def]  # numba infers
    num = 0
    for at in range(begin, end):
        num += byte_at(at) & 0xC0 != 0x80
    return num


@numba.njit(cache=True, nogil=True)
def _is_label(begin, end):  # type: ignore[no-untyped-def]  # numba infers
    return (
        0 < _characters(begin, end) <= 64
        and _is_letter_or_digit(byte_at(begin))
        and _is_letter_or_digit(byte_at(end - 1))
    )


@numba.njit(cache=True, nogil=True)
def _is_top_level(begin, end):  # type: ignore[no-untyped-def]  # numba infers
    if not 2 <= _characters(begin, end) <= 63:
        return False
    for at in range(begin, end):  # noqa: SIM110  # numba knows no generators
        if not (97 <= byte_at(at) <= 122 or byte_at(at) >= 0x80):
            return False
    return True
