"""The split that judges: its rows, its digest, and which rows the bootstrap draws together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.contracts.base import digest_of
from millrace.contracts.schema import DatasetMeta, SplitName
from millrace.models.ops.base import Array
from millrace.models.shards import read_batches
from millrace.runtime.stage import Artifact


class Split:
    """One split of a data set.

    Attributes:
        digest: Of the digests of its shards, in order.
        group: Column whose equal values are drawn together; empty if rows are drawn one by one.

    Raises:
        InvalidData: The split is empty.
    """

    def __init__(self, dataset: Artifact, name: SplitName, *, rows_per_batch: int) -> None:
        meta = DatasetMeta.model_validate(dataset.meta)
        shards = meta.of(name)
        groups = meta.schema_.with_role("group")
        targets = meta.schema_.with_role("target")
        self.dataset, self.name = dataset, name
        self.num_rows = sum(s.num_rows for s in shards)
        self.digest = digest_of([dataset.entry(s.path).digest for s in shards])
        self.group = groups[0].name if groups else ""
        self._target = targets[0].name if targets else ""
        self._paths = [s.path for s in shards]
        self._rows_per_batch = rows_per_batch
        if not self.num_rows:
            raise errors.InvalidData(
                f"The data set has no rows in its {name} split.", field="split",
                remedy="Give more data, or a larger share to this split in the clean stage.",
            )  # fmt: skip

    def target(self, *, task: str) -> str:
        """Name of the column that answers are compared with; empty for language modelling.

        Raises:
            InvalidData: The task needs one, and the data set has none.
        """
        if task == "language_modelling":
            return ""
        if not self._target:
            raise errors.InvalidData("The data set has no target column.", remedy="Clean the data with `target: NAME`.")
        return self._target

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The split's rows; all columns if `columns` is None."""
        files = [self.dataset.file(path) for path in self._paths]
        return read_batches(files, rows=self._rows_per_batch, columns=columns)

    def units(self) -> Array | None:
        """Code of each row's group (N,), or None. Rows of one group tell about each other, so they are drawn together."""
        if not self.group:
            return None
        columns = [batch.column(0) for batch in self.batches([self.group])]
        encoded = pa.chunked_array(columns).combine_chunks().dictionary_encode()
        codes = encoded.indices.fill_null(len(encoded.dictionary))
        return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)
