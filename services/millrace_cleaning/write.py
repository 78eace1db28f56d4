"""Writing Parquet shards whose bytes depend on the rows alone, not on how they arrived."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID, SCHEMA_METADATA_KEY, DatasetSchema
from millrace_cleaning.convert import storage_type
from millrace_cleaning.sizes import row_bytes

ROWS_PER_GROUP = 8192
BYTES_PER_GROUP = 64 * 2**20
"""Of values, before compression. A row group has at most so many, or one row."""


def write_shard(target: Path, batches: Iterable[pa.RecordBatch], *, schema: DatasetSchema) -> int:
    """Write batches of rows, whose columns are row_id and the schema's, as one file; return the number of rows."""
    form = arrow_schema(schema)
    pending = form.empty_table()
    sizes = np.empty(0, dtype=np.int64)
    num_rows = 0
    with pq.ParquetWriter(target, form, compression="zstd") as writer:
        for batch in batches:
            pending = pa.concat_tables([pending, pa.Table.from_batches([batch.cast(form)])])
            sizes = np.concatenate([sizes, row_bytes(batch)])
            num_rows += batch.num_rows
            while (end := _group_end(sizes)) is not None:
                _write(writer, pending.slice(0, end))
                pending, sizes = pending.slice(end), sizes[end:]
        if len(sizes):
            _write(writer, pending)
    return num_rows


def _write(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    """Write one row group. Rows are laid into one piece first: page ends follow the pieces of what is written."""
    writer.write_table(rows.combine_chunks(), row_group_size=rows.num_rows)


def _group_end(sizes: npt.NDArray[np.int64]) -> int | None:
    """Where the next row group ends; None if more rows may still belong to it."""
    full = int(np.searchsorted(np.cumsum(sizes[:ROWS_PER_GROUP]), BYTES_PER_GROUP, side="left")) + 1
    end = min(full, ROWS_PER_GROUP)
    return end if end <= len(sizes) else None


def arrow_schema(schema: DatasetSchema) -> pa.Schema:
    """The Arrow schema of a shard: row_id first, the data set's schema as metadata."""
    fields = [pa.field(ROW_ID, pa.string(), nullable=False)]
    fields += [pa.field(c.name, storage_type(c.type, c.shape), nullable=c.nullable) for c in schema.columns]
    return pa.schema(fields, metadata={SCHEMA_METADATA_KEY: schema.to_json().encode()})
