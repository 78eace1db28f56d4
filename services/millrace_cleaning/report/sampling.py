"""The rows that the page draws: few, chosen by a hash of their ids, and cut to what a plot or a cell needs of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID, Column, DatasetSchema, SplitName
from millrace.datasets.drift import measured
from millrace.datasets.samples import RANK, least, merge

NUM_ROWS = 2000
MAX_CHARS = 240
MAX_NUMBERS = 64
SIZE = ".size"
"""Ends the name of the column with the lengths of a column whose values were cut."""
SPLIT = ".split"
"""The column with a row's split. A column of the data may be called `split`."""
_LONG = ("text", "json", "tokens", "image", "audio")


class Sampler:
    """Passes batches on, and keeps the sample of what went by."""

    def __init__(self, schema: DatasetSchema) -> None:
        self._schema = schema
        self._sample: pa.Table | None = None

    def watch(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = least([batch], num_rows=NUM_ROWS)
            assert found is not None
            drawn = slim(found, self._schema)
            self._sample = drawn if self._sample is None else merge([self._sample, drawn], num_rows=NUM_ROWS)
            yield batch

    def write(self, target: Path, split: SplitName) -> None:
        """Write the sample of one split's rows, of which there is at least one."""
        assert self._sample is not None
        split_column = pa.array([split] * self._sample.num_rows, pa.string())
        pq.write_table(self._sample.append_column(SPLIT, split_column), target, compression="zstd")


def read_samples(files: Sequence[Path]) -> pa.Table | None:
    """The sample of all rows, of the samples of their shards."""
    found = [pq.read_table(file, use_threads=False) for file in files]
    return merge(found, num_rows=NUM_ROWS) if found else None


def slim(rows: pa.Table, schema: DatasetSchema) -> pa.Table:
    """Long values by their beginning, with their lengths beside them; vectors by a few of their numbers."""
    columns = {ROW_ID: rows.column(ROW_ID)}
    for column in schema.columns:
        values = rows.column(column.name)
        columns[column.name] = _cut(column, values)
        if column.type in _LONG and column.shape is None:
            sizes = iter(measured(column, values))
            present = values.is_valid().to_pylist()
            columns[column.name + SIZE] = pa.array([next(sizes) if ok else None for ok in present], pa.float64())
    return pa.table({**columns, RANK: rows.column(RANK)})


def _cut(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.shape is not None:
        size = values.type.list_size
        return pc.list_slice(values, 0, size, step=max(1, size // MAX_NUMBERS), return_fixed_size_list=False)
    if column.type in ("text", "json"):
        return pc.utf8_slice_codeunits(values, 0, MAX_CHARS)
    if column.type in ("image", "audio"):
        return pc.struct_field(values, "path")
    if column.type == "tokens":
        return pc.list_slice(values, 0, MAX_NUMBERS)
    return values
