"""Reading a split's Parquet shards as batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors
from millrace.models.reasons import reason_of


def read_batches(
    paths: Sequence[Path], *, rows: int = 1024, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows, in the files' order; one batch is in memory at a time.

    Args:
        columns: Which to read; all if None. One that a file lacks is left out, and named by whoever looks for it.

    Raises:
        InvalidData: A file is not Parquet, or its bytes are broken.
    """
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                names = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
                yield from (b for b in file.iter_batches(batch_size=rows, columns=names) if b.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise errors.InvalidData(
                f"Shard {path.name} is not readable Parquet: {reason_of(error)}",
                remedy="Clean the data again.",
            ) from error
