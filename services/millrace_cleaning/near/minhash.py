"""MinHash of word shingles, folded into one key a band: all that has to be kept of a text to find its near-duplicates.

Each of about 170 lanes orders the shingles by its own multiply-add hash (Dietzfelbinger et al. 1997) and keeps the least.
Two texts agree in a lane with the probability of their Jaccard similarity (Broder 1997). One-permutation hashing would save
most of the multiplications; but these are vectorised and take less time than reading the words does, and they need no rule
for the empty bins of short texts.
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.shingles import (
    Bytes,
    Ints,
    UInt32s,
    UInt64s,
    buffers,
    hash_shingles,
    hash_words,
    letters,
    mix,
    scratch,
)

NO_WORDS = 0
"""The key, in every band, of a text without words; no other text has it."""

_SEED = 20_260_101  # of the lanes: a constant, so that signatures of two runs can be compared


def signatures(texts: pa.Array, *, config: NearDedupConfig) -> pa.RecordBatch:
    """Return the band keys of each text: a column of uint64 for each band, named by `band_names`."""
    keys = band_keys(texts, config=config)
    columns = [pa.array(np.ascontiguousarray(band)) for band in keys.T]
    return pa.RecordBatch.from_arrays(columns, names=band_names(config))


def band_names(config: NearDedupConfig) -> list[str]:
    return [f".band_{band:03d}" for band in range(config.bands[0])]


def band_keys(texts: pa.Array, *, config: NearDedupConfig) -> UInt64s:
    """Return the band keys of each text [texts, bands]."""
    num_bands, rows = config.bands
    text, offsets = buffers(texts)
    factors, addends = _lanes(num_bands * rows)
    words, shingles = scratch(offsets)
    keys = np.empty((len(texts), num_bands), dtype=np.uint64)
    _fill(text, offsets, letters(), config.words_per_shingle, factors, addends, rows, words, shingles, keys)
    return keys


def _lanes(num: int) -> tuple[UInt32s, UInt32s]:
    """An odd factor and an addend for each lane."""
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(2**32, size=(num, 2), dtype=np.uint64)
    return (drawn[:, 0] | np.uint64(1)).astype(np.uint32), drawn[:, 1].astype(np.uint32)


@numba.njit(cache=True, nogil=True)
def _fill(
    text: Bytes, offsets: Ints, table: UInt32s, width: int, factors: UInt32s, addends: UInt32s, rows: int,
    words: UInt64s, shingles: UInt32s, keys: UInt64s,
) -> None:  # fmt: skip
    least = np.empty(len(factors), dtype=np.uint32)
    for i in range(len(offsets) - 1):
        num_words = hash_words(text, offsets[i], offsets[i + 1], table, words)
        num = hash_shingles(words, num_words, width, shingles)
        if num == 0:
            keys[i, :] = np.uint64(NO_WORDS)
            continue
        for lane in range(len(factors)):
            least[lane] = _least(shingles, num, factors[lane], addends[lane])
        for band in range(keys.shape[1]):
            key = np.uint64(0)
            for row in range(band * rows, band * rows + rows):
                key = mix(key ^ np.uint64(least[row])) + np.uint64(1)
            keys[i, band] = key if key != np.uint64(NO_WORDS) else np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _least(shingles: UInt32s, num: int, factor: np.uint32, addend: np.uint32) -> np.uint32:
    least = np.uint32(0xFFFFFFFF)
    for i in range(num):
        least = min(least, np.uint32(shingles[i] * factor + addend))
    return least
