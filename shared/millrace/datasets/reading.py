"""A data set in a local directory: its schema, its profile, and its rows as bounded batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.schema import ROW_ID, DatasetSchema, SplitName

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
ROWS_PER_BATCH = 8192
BYTES_PER_BATCH = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Dataset:
    """What cleaning made, as files under `root`: schema.json, profile.json, data/, and account/ where rows were touched."""

    root: Path
    schema: DatasetSchema
    profile: dict[str, Any]

    def shards(self, split: SplitName | None = None) -> list[Path]:
        """Parquet files of one split, or of all, in order of their rows."""
        splits = SPLITS if split is None else (split,)
        return [path for name in splits for path in sorted((self.root / "data").glob(f"{name}-*.parquet"))]

    def batches(
        self, *, split: SplitName | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[SplitName, pa.RecordBatch]]:
        """Yield (split, batch) with row_id and the named columns, or all.

        Raises:
            InvalidData: A shard is no whole Parquet file.
        """
        wanted = None if columns is None else [ROW_ID, *columns]
        for name in SPLITS if split is None else (split,):
            for path in self.shards(name):
                yield from ((name, batch) for batch in _read(path, wanted))

    @property
    def source(self) -> str:
        """First 16 hex digits of the digest of what was cleaned; empty for a data set without rows."""
        for _, batch in self.batches(columns=()):
            return str(batch.column(ROW_ID)[0].as_py()).partition("-")[0]
        return ""


def open_dataset(root: Path) -> Dataset:
    """Open a data set's directory.

    Raises:
        InvalidInput: The directory holds no data set.
    """
    try:
        schema = DatasetSchema.model_validate_json((root / "schema.json").read_bytes())
        profile = json.loads((root / "profile.json").read_bytes())
    except FileNotFoundError as error:
        raise errors.InvalidInput(
            f"{root} holds no data set: {Path(error.filename).name} is missing.",
            remedy="Give what a clean stage made: a run's id, a digest, or a directory it was downloaded to.",
            field="dataset",
        ) from None
    except (ValidationError, ValueError) as error:
        raise errors.InvalidData(
            f"{root} has a schema or a profile that cannot be read: {str(error).splitlines()[0]}", field="dataset"
        ) from None
    return Dataset(root, schema, profile)


def _read(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            rows = _rows_per_batch(file.metadata)
            yield from (b for b in file.iter_batches(batch_size=rows, columns=columns, use_threads=False) if b.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise errors.InvalidData(
            f"{path.name} is not readable Parquet: {str(error).splitlines()[0][:200]}", remedy="Download it again."
        ) from error


def _rows_per_batch(metadata: pq.FileMetaData) -> int:
    """As many rows as keep a batch within BYTES_PER_BATCH, by the file's own sizes."""
    size_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH * metadata.num_rows // max(1, size_bytes))))
