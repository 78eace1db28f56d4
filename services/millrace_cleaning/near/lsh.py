"""Candidates: pairs of rows that share the key of a band, found by sorting one band after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from millrace_cleaning.near.minhash import NO_WORDS, band_names
from millrace_cleaning.near.settings import NearDedupConfig

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Number = TypeVar("Number", np.uint64, np.int64)
Pairs = npt.NDArray[np.int64]
"""[pairs, 2]: positions of two rows, the first below the second; ascending, none twice."""

SMALL_BUCKET = 16
"""Rows of a bucket that are all paired with one another."""
NEIGHBOURS = 4
"""Next rows with which a row of a larger bucket is paired."""


def candidates(files: Sequence[Path], *, config: NearDedupConfig, alive: Flags | None = None) -> Pairs:
    """Return the pairs of rows that share the key of some band.

    A bucket of many rows is not paired row by row, which would take quadratic time: its rows are ordered by their keys in
    the next band, so that the most alike are neighbours; and each is paired with a few neighbours, with the bucket's first
    row and with the first of those with its key in the next band too. Over all bands, alike rows are neighbours often.

    Args:
        files: Parquet files with the columns of `minhash.signatures`, in the rows' order; some may be missing, which have
            no rows.
        alive: Which rows take part, such as those that are no exact duplicates.

    Memory: 32 bytes a row while one band is sorted, and 24 bytes a pair.
    """
    present = [file for file in files if file.exists()]
    names = band_names(config)
    found = np.empty(0, dtype=np.uint64)
    first_keys = keys = _read_band(present, names[0])
    num_rows = len(keys)
    takes_part = keys != NO_WORDS
    if alive is not None:
        takes_part &= alive
    rows = np.flatnonzero(takes_part)
    for name in [*names[1:], ""]:
        next_keys = _read_band(present, name) if name else first_keys
        one, other = rows[bucket_pairs(keys[rows], next_keys[rows])].astype(np.uint64).T
        codes = np.minimum(one, other) * np.uint64(num_rows) + np.maximum(one, other)
        found = _distinct(np.concatenate([found, codes]))
        keys = next_keys
    return np.stack(np.divmod(found, np.uint64(max(num_rows, 1))), axis=1).astype(np.int64)


def candidate_rows(pairs: Pairs) -> Ints:
    """The rows that stand in some pair, ascending: those whose shingle sets have to be written."""
    return _distinct(pairs.ravel().copy())


def bucket_pairs(keys: UInt64s, next_keys: UInt64s) -> Pairs:
    """Return pairs of positions with equal keys: all of a small bucket, and a few for each row of a larger one.

    In no order, and some of a larger bucket twice.
    """
    order, begins, ends = _buckets(keys)
    is_large = ends - begins > SMALL_BUCKET
    large = np.flatnonzero(is_large)
    members = order[large]
    order[large] = members[np.lexsort((members, next_keys[members], keys[members]))]  # each bucket keeps its places
    return np.concatenate(
        [
            *(_neighbours(order, ends, is_large, distance=distance) for distance in range(1, SMALL_BUCKET)),
            *_with_leaders(order, begins, large, next_keys),
        ]
    )


def _neighbours(order: Ints, ends: Ints, is_large: Flags, *, distance: int) -> Pairs:
    """Rows of one bucket that are so many places apart."""
    paired = np.arange(len(order)) + distance < ends
    if distance > NEIGHBOURS:
        paired &= ~is_large
    places = np.flatnonzero(paired)
    return np.stack([order[places], order[places + distance]], axis=1)


def _with_leaders(order: Ints, begins: Ints, large: Ints, next_keys: UInt64s) -> list[Pairs]:
    """Each row of the large buckets with the first of its bucket, and with the first of those alike in the next band."""
    rows, firsts = order[large], begins[large]
    is_new = (firsts == large) | (next_keys[rows] != next_keys[order[large - 1]])
    firsts_alike = large[np.maximum.accumulate(np.where(is_new, np.arange(len(large)), 0))]
    return [np.stack([order[first], rows], axis=1)[first != large] for first in (firsts, firsts_alike)]


def _distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Sort in place and leave out repetitions: numpy's own `unique` hashes integers, which takes ten times as long."""
    values.sort()
    is_new = np.concatenate([np.ones(min(len(values), 1), dtype=np.bool_), values[1:] != values[:-1]])
    distinct: npt.NDArray[Number] = values[is_new]
    return distinct


def _buckets(keys: UInt64s) -> tuple[Ints, Ints, Ints]:
    """The positions that share their key with another, by key and position; and where each one's bucket begins and ends."""
    order = np.argsort(keys, kind="stable")
    changes = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
    sizes = np.diff(changes, prepend=0, append=len(keys))
    order = order[np.repeat(sizes > 1, sizes)]
    sizes = sizes[sizes > 1]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return order, np.repeat(bounds[:-1], sizes), np.repeat(bounds[1:], sizes)


def _read_band(files: Sequence[Path], name: str) -> UInt64s:
    columns = [pq.read_table(file, columns=[name], use_threads=False).column(0) for file in files]
    chunks = [chunk for column in columns for chunk in column.chunks]
    keys: UInt64s = pa.chunked_array(chunks, pa.uint64()).to_numpy()
    return keys
