"""Pictures that look alike, across all shards: hashes that differ in few bits, found without comparing all pairs.

Among d // 2 + 1 bands of a hash's bits, two hashes that differ in at most d bits differ in at most one bit of some band
(the pigeonhole principle), so each band is looked up as it is and with each of its bits turned.

Source:
    Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UInt64s = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

MAX_DISTANCE = 16
"""Beyond it bands are so narrow that nearly every pair is compared, and unlike pictures are found alike."""

_BITS = 64
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Lookalikes:
    """Of each picture, the first of its cluster (itself, if it is alone), and how far it is from its nearest: 64 if alone.

    A cluster is all that hangs together by pairs within the distance asked for. The order of pictures decides which of
    them names a cluster, and nothing else does.
    """

    first: Ints
    distance: Ints


def lookalikes(hashes: UInt64s, *, max_distance: int) -> Lookalikes:
    """Find the clusters of pictures by their hashes.

    Args:
        max_distance: Of bits that differ; 0 to MAX_DISTANCE.
    """
    assert 0 <= max_distance <= MAX_DISTANCE
    distinct, firsts, places, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    parents: Ints = np.arange(len(distinct), dtype=np.int64)
    nearest = np.where(counts > 1, 0, _BITS).astype(np.int64)
    if max_distance:
        for left, right in near_pairs(distinct, max_distance=max_distance):
            parents = _joined(parents, left, right)
            distances = np.bitwise_count(distinct[left] ^ distinct[right]).astype(np.int64)
            np.minimum.at(nearest, left, distances)
            np.minimum.at(nearest, right, distances)
    first_of_root = np.full(len(distinct), len(hashes), dtype=np.int64)
    np.minimum.at(first_of_root, parents, firsts)
    return Lookalikes(first_of_root[parents][places], nearest[places])


def lookalikes_among(hashes: pa.ChunkedArray, *, alive: npt.NDArray[np.bool_], max_distance: int) -> Lookalikes:
    """The same over all rows of a data set; those without a hash, and those that are not alive, stay alone."""
    rows = np.flatnonzero(alive & hashes.is_valid().to_numpy())
    found = lookalikes(hashes.fill_null(0).to_numpy()[rows], max_distance=max_distance)
    first, distance = np.arange(len(hashes), dtype=np.int64), np.full(len(hashes), _BITS, dtype=np.int64)
    first[rows], distance[rows] = rows[found.first], found.distance
    return Lookalikes(first, distance)


def near_pairs(hashes: UInt64s, *, max_distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of positions, (left, right) arrays, whose hashes differ in at most max_distance bits; some more than once."""
    num_bands = max_distance // 2 + 1
    edges = np.linspace(0, _BITS, num_bands + 1).astype(np.int64)
    for low, high in pairwise(edges):
        width = int(high - low)
        mask = np.uint64((1 << width) - 1)
        band = (hashes >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable").astype(np.int64)
        ordered = band[order]
        ends = np.searchsorted(ordered, ordered, side="right")
        after = np.arange(1, len(order) + 1)
        yield from _compared(hashes, order, after, ends, max_distance)
        for bit in range(width):
            turned = ordered | np.uint64(1 << bit)
            begins = np.searchsorted(ordered, turned, side="left")
            stops = np.searchsorted(ordered, turned, side="right")
            stops[turned == ordered] = 0  # each pair once, from the side whose bit is 0
            yield from _compared(hashes, order, begins, stops, max_distance)


def _compared(hashes: UInt64s, order: Ints, begins: Ints, ends: Ints, max_distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Compare each position of the order with those from its begin to its end; memory is bounded by _CHUNK pairs."""
    counts = np.maximum(ends - begins, 0)
    rows = np.flatnonzero(counts)
    while len(rows):
        totals = np.cumsum(counts[rows])
        taken = max(1, int(np.searchsorted(totals, _CHUNK, side="right")))
        head, rows = rows[:taken], rows[taken:]
        for left, right in _spread(head, begins[head], counts[head]):
            left, right = order[left], order[right]
            near = np.bitwise_count(hashes[left] ^ hashes[right]) <= max_distance
            if near.any():
                yield left[near], right[near]


def _spread(rows: Ints, begins: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Write ranges out as pairs: row i with each of begins[i] to begins[i] + counts[i]."""
    if len(rows) == 1:  # one range alone may be longer than a chunk
        for start in range(0, int(counts[0]), _CHUNK):
            right = np.arange(start, min(start + _CHUNK, int(counts[0]))) + begins[0]
            yield np.full(len(right), rows[0]), right
        return
    left = np.repeat(rows, counts)
    offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    yield left, np.repeat(begins, counts) + offsets


def _joined(parents: Ints, left: Ints, right: Ints) -> Ints:
    """Join the trees of all pairs at once; every node points at its root, the smallest position, before and after."""
    parents = parents.copy()
    while True:
        low, high = np.minimum(parents[left], parents[right]), np.maximum(parents[left], parents[right])
        apart = low != high
        if not apart.any():
            return parents
        left, right = left[apart], right[apart]
        np.minimum.at(parents, high[apart], low[apart])
        while (parents[parents] != parents).any():
            parents = parents[parents]
