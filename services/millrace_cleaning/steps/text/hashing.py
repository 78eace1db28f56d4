"""64-bit hashes of bytes and of words in a row, the same on every machine. Not for adversaries; for duplicates in one text."""

from __future__ import annotations

import numba
import numpy as np

from millrace_cleaning.steps.text.memory import byte_at, uint64_at

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_EIGHT = np.uint64(8)


@numba.njit(cache=True, nogil=True)
def mix(value: np.uint64) -> np.uint64:
    """A bijection whose every output bit depends on every input bit."""
    value = (value ^ (value >> _HALF)) * _MIXER
    value = (value ^ (value >> _HALF)) * _MIXER
    return value ^ (value >> _HALF)


@numba.njit(cache=True, nogil=True)
def hash_bytes(begin: int, end: int, last: int) -> np.uint64:
    """Return the hash of the bytes from one address to another, eight at a time; up to last there is memory to read."""
    total = np.uint64(end - begin) * _ODD
    at = begin
    while at + 8 <= end:
        total = (total ^ uint64_at(at)) * _ODD
        total ^= total >> _HALF
        at += 8
    if at + 8 <= last:
        below = (_ONE << np.uint64(8 * (end - at))) - _ONE
        return mix(total ^ (uint64_at(at) & below))
    block, shift = np.uint64(0), np.uint64(0)
    while at < end:
        block |= np.uint64(byte_at(at)) << shift
        shift += _EIGHT
        at += 1
    return mix(total ^ block)


@numba.njit(cache=True, nogil=True)
def follow(total: np.uint64, value: np.uint64) -> np.uint64:
    """Return the hash of a row of words from that of all but the last, and the last's."""
    return (total ^ (total >> _HALF)) * _ODD + value
