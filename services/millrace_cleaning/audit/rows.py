"""The rows of a data set as an audit sees them: all of them go past once, and a seeded sample stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.schema import ROW_ID, Column, DatasetMeta, SplitName
from millrace.models.shards import read_batches
from millrace.runtime.stage import Artifact

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Codes = npt.NDArray[np.int8]
"""A split's position in SPLITS, for each row."""

_ROWS_PER_BATCH = 256
_MAX_BYTES = 512 * 2**20
"""Of a sample, as its rows lie compressed in their shards: twenty thousand photographs are more than memory holds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that models look at.

    Attributes:
        rows: Their columns, each in one piece.
        codes: Which split each is in.
        ordinals: Where each stood in the source.
        positions: Where each stands in the data set, shard after shard.
    """

    rows: pa.RecordBatch
    codes: Codes
    ordinals: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def column(self, name: str) -> pa.Array:
        return self.rows.column(self.rows.schema.get_field_index(name))

    def row_ids(self) -> pa.Array:
        return self.column(ROW_ID)


@dataclass(frozen=True, slots=True)
class Data:
    """A data set to audit."""

    artifact: Artifact
    meta: DatasetMeta

    @property
    def num_rows(self) -> int:
        return sum(shard.num_rows for shard in self.meta.shards)

    @property
    def features(self) -> tuple[Column, ...]:
        return self.meta.schema_.with_role("feature")

    @property
    def columns(self) -> list[str]:
        """All that an audit reads."""
        roles = ("feature", "target", "group", "time")
        return [ROW_ID, *(c.name for c in self.meta.schema_.columns if c.role in roles)]

    @property
    def target(self) -> Column | None:
        """The column to predict, if there is exactly one."""
        targets = self.meta.schema_.with_role("target")
        return targets[0] if len(targets) == 1 else None

    def batches(self, columns: list[str] | None = None) -> Iterator[tuple[pa.RecordBatch, int]]:
        """All rows, each batch with its split's code."""
        for shard in self.meta.shards:
            for batch in read_batches([self.artifact.file(shard.path)], rows=_ROWS_PER_BATCH, columns=columns):
                yield batch, SPLITS.index(shard.split)


def open_data(artifact: Artifact) -> Data:
    """Raises InvalidData if the artifact is not a data set, or has no rows."""
    try:
        data = Data(artifact, DatasetMeta.model_validate(artifact.meta))
    except ValidationError as error:
        raise errors.InvalidData(
            f"Artifact {artifact.ref.digest[:12]} is not a data set.", remedy="Give the output of a clean stage."
        ) from error
    if not data.num_rows:
        raise errors.InvalidData("The data set has no rows.", remedy="Give data with rows.")
    return data


def draw(
    data: Data, *, max_rows: int, seed: int, see: Callable[[pa.RecordBatch, int], None], progress: Callable[[int], None]
) -> Sample:
    """Let every row pass by `see`, and keep about max_rows of them, fewer if they are large; all if there are no more.

    Args:
        see: Called with each batch and its split's code, in order.
        progress: Called with how many rows have passed.
    """
    size = sum(data.artifact.entry(shard.path).size_bytes for shard in data.meta.shards)
    share = min(max_rows / data.num_rows, _MAX_BYTES / max(size, 1))
    random = np.random.default_rng(seed)
    kept, codes, positions = [], [], []
    begin = 0
    for batch, code in data.batches(data.columns):
        see(batch, code)
        chosen = random.random(batch.num_rows) < share
        kept.append(batch.filter(pa.array(chosen)))
        codes.append(np.full(int(chosen.sum()), code, dtype=np.int8))
        positions.append(begin + np.flatnonzero(chosen))
        begin += batch.num_rows
        progress(begin)
    table = pa.Table.from_batches(kept).combine_chunks()
    rows = pa.RecordBatch.from_arrays(
        [c.chunk(0) if c.num_chunks == 1 else pa.concat_arrays(c.chunks) for c in table.columns], schema=table.schema
    )
    places = np.concatenate(positions)
    ordinals = _ordinals(rows, places)
    return Sample(rows=rows, codes=np.concatenate(codes), ordinals=ordinals, positions=places)


def _ordinals(rows: pa.RecordBatch, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Row ids end with where a row stood in its source; a data set of another make falls back on its own order."""
    ids = rows.column(rows.schema.get_field_index(ROW_ID)).to_pylist()
    try:
        return np.array([int(row_id.rpartition("-")[2].partition(".")[0]) for row_id in ids], dtype=np.int64)
    except (ValueError, AttributeError):
        return positions
