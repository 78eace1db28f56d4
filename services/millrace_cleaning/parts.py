"""Parts: what the repair round makes of a piece of the source, as several files by who reads them; and picking rows of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.datasets.keys import row_keys, value_keys
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.profile import measure
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.uniqueness import unique_keys

Ints = npt.NDArray[np.int64]

# Columns beside the user's; a dot at the start keeps them apart from sensible names.
ROW, LOW, HIGH = ".row", ".key_low", ".key_high"
GROUP, MOMENT, SIZE = ".group", ".moment", ".size"

ROWS_PER_BATCH = 8192


@dataclass(slots=True)
class PartWriter:
    """Writes the files of one part, each opened when it gets its first rows."""

    root: Path
    _writers: dict[str, pq.ParquetWriter] = field(default_factory=dict)

    def add(self, name: str, rows: pa.RecordBatch | pa.Table) -> None:
        """Append rows to the file of a name; a batch is a row group."""
        if name not in self._writers:
            path = self.root / f"{name}.parquet"
            self._writers[name] = pq.ParquetWriter(path, rows.schema, compression="lz4", use_dictionary=False)
        if rows.num_rows:
            self._writers[name].write(rows)

    def close(self) -> dict[str, Path]:
        """Finish all files; return them by name."""
        for writer in self._writers.values():
            writer.close()
        return {name: self.root / f"{name}.parquet" for name in self._writers}


def keys_of(batch: pa.RecordBatch, ordinals: Ints, *, plan: CleaningPlan, config: CleanConfig) -> pa.RecordBatch:
    """What decides whether a row stays, and in which split: a few dozen bytes a row."""
    low, high = row_keys(batch, [c.name for c in plan.with_role("feature") if not c.is_added])
    columns: dict[str, pa.Array] = {ROW: pa.array(ordinals), LOW: pa.array(low), HIGH: pa.array(high)}
    if config.split.by:
        columns[GROUP] = pa.array(value_keys(batch.column(config.split.by)))
    if config.split.time:
        moments = batch.column(config.split.time)
        columns[MOMENT] = moments.cast(pa.int64()) if pa.types.is_timestamp(moments.type) else moments
    if text := cut_column(plan, config):
        columns[SIZE] = pc.utf8_length(batch.column(text)).fill_null(0)
    for column in plan.with_role("target"):
        if column.type == "category":
            columns[column.name] = batch.column(column.name)
    columns |= unique_keys(batch, config)
    return pa.record_batch(columns)


def measures_of(batch: pa.RecordBatch, *, plan: CleaningPlan) -> pa.RecordBatch:
    """What the profile is made of: values where they are short, and the lengths of texts and files."""
    return pa.record_batch({c.name: measure(c, batch.column(c.name)) for c in plan.columns})


def cut_column(plan: CleaningPlan, config: CleanConfig) -> str:
    """The text that a contiguous split of a language model's data is cut in; empty if whole rows are divided."""
    features = [c for c in plan.with_role("feature") if not c.is_added]
    is_cut = config.split.order == "contiguous" and config.task == "language_modelling" and features[0].type == "text"
    return features[0].name if is_cut else ""


def read_column(files: Sequence[Path], name: str) -> pa.ChunkedArray:
    """One column of several parts' files, in order."""
    columns = [pq.read_table(file, columns=[name], use_threads=False).column(0) for file in files]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def picked(file: Path, rows: Ints, *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield rows of a part by their positions, ascending, one row group at a time; a position may stand several times."""
    with pq.ParquetFile(file) as part:
        begin = 0
        for group in range(part.num_row_groups):
            end = begin + part.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, [begin, end])
            if first < last:
                names = None if columns is None else list(columns)
                table = part.read_row_group(group, columns=names, use_threads=False).combine_chunks()
                found = table if last - first == table.num_rows == len(np.unique(rows[first:last])) else None
                found = table.take(pa.array(rows[first:last] - begin)) if found is None else found
                yield from found.combine_chunks().to_batches()
            begin = end


def evenly(batches: Iterator[pa.RecordBatch], num_rows: int = ROWS_PER_BATCH) -> Iterator[pa.RecordBatch]:
    """Cut a stream of batches into ones of so many rows, so that sums over them round alike."""
    pending: list[pa.RecordBatch] = []
    waiting = 0
    for batch in batches:
        pending.append(batch)
        waiting += batch.num_rows
        while waiting >= num_rows:
            rows = pa.Table.from_batches(pending)
            yield _one_batch(rows.slice(0, num_rows))
            pending, waiting = rows.slice(num_rows).to_batches(), waiting - num_rows
    if waiting:
        yield _one_batch(pa.Table.from_batches(pending))


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.concat_arrays(c.chunks) for c in rows.columns], schema=rows.schema)
