"""Finding any of several phrases in a text, whatever the case of its ASCII letters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numba
import numpy as np
import numpy.typing as npt

from millrace_cleaning.steps.text.memory import byte_at

Ints = npt.NDArray[np.int64]
Phrases = tuple[npt.NDArray[np.uint8], Ints, Ints, Ints, Ints]
"""Bytes of all phrases one after another; where each begins, with the end; which of a phrase's bytes is looked for, its
anchor; for each byte the first phrase that has it as its anchor, with the end; and which phrase of those given it is."""

_FREQUENT = b" etaoinshrdlcumwfgypbvkjxqz"


@cache
def compiled(phrases: Sequence[str]) -> Phrases:
    """Return phrases in the form that kernels take. The anchor is a phrase's rarest letter in English."""
    contents = [_lower(phrase) for phrase in phrases]
    order = sorted(range(len(contents)), key=lambda i: _anchor_byte(contents[i]))
    contents = [contents[i] for i in order]
    anchors = [_anchor_byte(content) for content in contents]
    places = np.array([c.index(a) for c, a in zip(contents, anchors, strict=True)], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(content) for content in contents])]).astype(np.int64)
    first = np.searchsorted(np.array(anchors), np.arange(257)).astype(np.int64)
    return np.frombuffer(b"".join(contents), dtype=np.uint8), starts, places, first, np.array(order, dtype=np.int64)


def _lower(phrase: str) -> bytes:
    return phrase.encode().lower()  # of bytes: ASCII alone


def _anchor_byte(content: bytes) -> int:
    return max(content, key=lambda byte: (_FREQUENT.find(byte) if byte in _FREQUENT else 99, byte))


@numba.njit(cache=True, nogil=True)
def lowered(byte: int) -> int:
    """Return a capital ASCII letter in lower case, and any other byte as it is."""
    return byte + 32 if 65 <= byte <= 90 else byte


@numba.njit(cache=True, nogil=True)
def stands_at(at: int, begin: int, end: int, phrase: int, stop: int, anchor: int) -> bool:
    """Return whether a phrase, the bytes from phrase to stop, stands between two addresses with its anchor at `at`."""
    start = at - anchor
    if start < begin or start + stop - phrase > end:
        return False
    for i in range(stop - phrase):  # noqa: SIM110  # numba knows no generators
        if lowered(byte_at(start + i)) != byte_at(phrase + i):
            return False
    return True
