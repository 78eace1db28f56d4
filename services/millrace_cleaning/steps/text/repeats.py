"""Which hashes stood before: an open-addressing table that is written over for each text, never cleared.

A slot is taken if its stamp is that of the text in hand, so a table costs nothing to begin anew, and a small text uses a small
part of it, which stays in the processor's cache.
"""

from __future__ import annotations

import numba
import numpy as np

from millrace_cleaning.steps.text.memory import int32_at, put_int32, put_uint64, uint64_at


@numba.njit(cache=True, nogil=True)
def longest_row(starts):  # type: ignore[no-untyped-def]  # numba infers
    """Return how many slots the row with the most items needs: a power of two, at least half of it empty."""
    most, slots = 4, 8
    for row in range(len(starts) - 1):
        most = max(most, starts[row + 1] - starts[row])
    while slots < 2 * most:
        slots *= 2
    return slots


@numba.njit(cache=True, nogil=True)
def was_seen(table: int, stamps: int, mask: int, stamp: int, value: np.uint64) -> bool:
    """Return whether a hash stood before under this stamp, and remember it. table and stamps are addresses."""
    slot = find(table, stamps, mask, stamp, value)
    if int32_at(stamps, slot) == stamp:
        return True
    put_int32(stamps, slot, stamp)
    put_uint64(table, slot, value)
    return False


@numba.njit(cache=True, nogil=True)
def find(table, stamps, mask, stamp, value):  # type: ignore[no-untyped-def]  # numba infers
    """Return the slot that holds a hash, or that it would take."""
    slot = np.int64(value & np.uint64(mask))
    while int32_at(stamps, slot) == stamp and uint64_at(table + 8 * slot) != value:
        slot = (slot + 1) & mask
    return slot
