"""The Jaccard similarity of candidate pairs, from their whole sets of shingles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_cleaning.near.lsh import Pairs
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.shingles import Ints, ShingleSets, UInt32s, shingle_sets

Floats = npt.NDArray[np.float64]


def write_sets(target: Path, texts: Iterable[pa.Array], *, config: NearDedupConfig) -> int:
    """Write the shingle sets of one part's candidates as an Arrow file that can be mapped; return their number.

    Memory: the sets of the part, about two thirds of its texts' bytes.
    """
    sets = [shingle_sets(array, config=config) for array in texts]
    sizes = [np.diff(found.offsets) for found in sets]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *sizes]))])
    values = np.concatenate([np.empty(0, np.uint32), *(found.values for found in sets)])
    array = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    batch = pa.record_batch({"shingles": array})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return len(array)


def read_sets(file: Path) -> ShingleSets:
    """Map what `write_sets` wrote: pages are read when they are needed, and take no memory that another process lacks."""
    with pa.memory_map(str(file)) as source:
        array = pa.ipc.open_file(source).get_batch(0).column(0)
    return ShingleSets(array.values.to_numpy(), array.offsets.to_numpy())


def similarities(pairs: Pairs, files: Sequence[Path], *, rows: Ints, config: NearDedupConfig) -> Floats:
    """Return the Jaccard similarity of the shingle sets of each pair, or 0 where it is below the threshold.

    Args:
        files: What `write_sets` wrote for each part, in order; a missing one has no candidates.
        rows: The candidate rows, ascending: those whose sets the files hold, one after another.

    Memory: the mapped sets of two parts, and 50 bytes a pair.
    """
    present = [file for file in files if file.exists()]
    bounds = np.cumsum([0, *(len(read_sets(file)) for file in present)])
    found = np.zeros(len(pairs), dtype=np.float64)
    places = np.searchsorted(rows, pairs)
    parts = np.searchsorted(bounds, places, side="right") - 1
    order = np.lexsort((parts[:, 1], parts[:, 0]))
    changes = np.flatnonzero((np.diff(parts[order], axis=0) != 0).any(axis=1)) + 1
    for group in np.split(order, changes):
        if len(group):
            one, other = (read_sets(present[part]) for part in parts[group[0]])
            found[group] = _similarities(
                places[group] - bounds[parts[group]], one.values, one.offsets, other.values, other.offsets,
                config.threshold,
            )  # fmt: skip
    return found


@numba.njit(cache=True, nogil=True)
def _similarities(
    pairs: Pairs, values: UInt32s, offsets: Ints, other_values: UInt32s, other_offsets: Ints, threshold: float
) -> Floats:
    found = np.zeros(len(pairs), dtype=np.float64)
    for i in range(len(pairs)):
        one, other = pairs[i, 0], pairs[i, 1]
        found[i] = jaccard(
            values[offsets[one] : offsets[one + 1]],
            other_values[other_offsets[other] : other_offsets[other + 1]],
            threshold,
        )
    return found


@numba.njit(cache=True, nogil=True)
def jaccard(one: UInt32s, other: UInt32s, threshold: float) -> float:
    """The Jaccard similarity of two ascending sets, or 0 as soon as it is sure to be below the threshold."""
    num_one, num_other = len(one), len(other)
    # Of a set, at most this many may lack in the other: |A and B| >= t / (1 + t) * (|A| + |B|).
    needed = threshold / (1 + threshold) * (num_one + num_other) - 1e-6
    i = j = shared = 0
    while i < num_one and j < num_other:
        if shared + min(num_one - i, num_other - j) < needed:
            return 0.0
        for _ in range(64):
            if i == num_one or j == num_other:
                break
            a, b = one[i], other[j]
            shared += a == b
            i += a <= b
            j += b <= a
    union = num_one + num_other - shared
    found = shared / union if union else 0.0
    return found if found >= threshold else 0.0
