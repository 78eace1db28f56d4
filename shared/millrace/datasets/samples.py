"""Samples that depend on the rows alone: those whose seeded hash is least, whatever batch, shard or order they come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from millrace.contracts.schema import ROW_ID, SplitName
from millrace.datasets.keys import UInt64s, seeded_order, value_keys
from millrace.datasets.reading import SPLITS, Dataset

RANK = ".rank"


def least(batches: Iterable[pa.RecordBatch], *, num_rows: int, seed: int = 0) -> pa.Table | None:
    """Return the `num_rows` rows of least seeded hash of their row_id, ascending, with that hash as `.rank`.

    Samples of parts merge: the least of their leasts are the least of all. None where there is no row.
    Memory: at most 2 * num_rows rows and a batch.
    """
    pending: list[pa.Table] = []
    for batch in batches:
        ranks = seeded_order(value_keys(batch.column(ROW_ID)), seed=seed)
        chosen = _least_of(ranks, num_rows)
        rows = pa.Table.from_batches([batch.take(pa.array(chosen))])
        pending.append(rows.append_column(RANK, pa.array(ranks[chosen])))
        if sum(table.num_rows for table in pending) > 2 * num_rows:
            pending = [merge(pending, num_rows=num_rows)]
    return merge(pending, num_rows=num_rows) if pending else None


def merge(samples: Sequence[pa.Table], *, num_rows: int) -> pa.Table:
    """The sample of what some samples, of at least `num_rows` rows each where they could, were taken from."""
    rows = pa.concat_tables(samples)
    return rows.take(pa.array(_least_of(rows.column(RANK).to_numpy(), num_rows)))


def sample(dataset: Dataset, *, num_rows: int, split: SplitName | None = None, seed: int = 0) -> pa.Table | None:
    """Rows of a data set, drawn without replacement, each with its split in the last column: `split`, or `split_` where the
    data have one of that name."""
    taken = []
    place = "split"
    while place in {column.name for column in dataset.schema.columns}:
        place += "_"
    for name in [split] if split else SPLITS:
        found = least((batch for _, batch in dataset.batches(split=name)), num_rows=num_rows, seed=seed)
        if found is not None:
            taken.append(found.append_column(place, pa.array([name] * found.num_rows, pa.string())))
    return merge(taken, num_rows=num_rows).drop_columns([RANK]) if taken else None


def _least_of(ranks: UInt64s, num: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Positions of the least values, ascending by value."""
    if len(ranks) > num:
        candidates = np.argpartition(ranks, num)[:num]
        return candidates[np.argsort(ranks[candidates], kind="stable")]
    return np.argsort(ranks, kind="stable")
