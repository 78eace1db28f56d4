"""Writing Parquet shards whose bytes depend on the rows alone, not on how they arrived."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID, SCHEMA_METADATA_KEY, DatasetSchema, Shard, SplitName
from millrace_cleaning.convert import storage_type

ROWS_PER_GROUP = 8192


class ShardWriter:
    """Writes one split as `data/<split>-00000.parquet` and so on, with a bounded number of rows in memory."""

    def __init__(self, root: Path, *, split: SplitName, schema: DatasetSchema, rows_per_shard: int) -> None:
        self.shards: list[Shard] = []
        self._root = root
        self._split = split
        self._schema = arrow_schema(schema)
        self._rows_per_shard = rows_per_shard
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0
        self._writer: pq.ParquetWriter | None = None
        self._num_written = 0  # in the open shard

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows whose columns are row_id and the schema's."""
        if batch.num_rows:
            self._pending.append(batch.cast(self._schema))
            self._num_pending += batch.num_rows
        while self._num_pending >= self._next_group():
            self._write(self._next_group())

    def close(self) -> None:
        if self._num_pending:
            self._write(self._num_pending)
        self._end_shard()

    def _next_group(self) -> int:
        return min(ROWS_PER_GROUP, self._rows_per_shard - self._num_written)

    def _write(self, num_rows: int) -> None:
        """Write one row group. Rows are laid into one piece first: page ends follow the pieces of what is written."""
        rows = pa.Table.from_batches(self._pending, schema=self._schema)
        group = rows.slice(0, num_rows).combine_chunks()
        self._pending = rows.slice(num_rows).to_batches()
        self._num_pending -= num_rows
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._root / self._path(), self._schema, compression="zstd")
        self._writer.write_table(group, row_group_size=num_rows)
        self._num_written += num_rows
        if self._num_written == self._rows_per_shard:
            self._end_shard()

    def _path(self) -> str:
        return f"data/{self._split}-{len(self.shards):05d}.parquet"

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.shards.append(Shard(path=self._path(), split=self._split, num_rows=self._num_written))
        self._writer, self._num_written = None, 0


def arrow_schema(schema: DatasetSchema) -> pa.Schema:
    """The Arrow schema of a shard: row_id first, the data set's schema as metadata."""
    fields = [pa.field(ROW_ID, pa.string(), nullable=False)]
    fields += [pa.field(c.name, storage_type(c.type, c.shape), nullable=c.nullable) for c in schema.columns]
    return pa.schema(fields, metadata={SCHEMA_METADATA_KEY: schema.to_json().encode()})
