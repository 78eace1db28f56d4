"""`one_hot@1` and `ordinal@1`: categories by the training split's vocabulary, with a place for what it never held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.models.ops.base import Array, Fitter, Op, State, strings
from millrace.models.signature import ColumnSpec, FeaturizerOp, TensorSpec

UNKNOWN = 0
"""Code of a null or of a value that the training split never held; known values count from 1."""


class _Categories(Op):
    suffix = ".json"
    takes = ("category", "boolean", "integer", "text")

    @classmethod
    def fitter(cls, spec: FeaturizerOp, columns: Sequence[ColumnSpec]) -> Fitter:  # noqa: ARG003 - one shape for all
        return _Vocabularies(columns)

    def codes(self, batch: pa.RecordBatch) -> Array:
        """Codes (rows, columns) int64, UNKNOWN or position in the vocabulary plus one."""
        vocabularies = self.state["vocabularies"]
        found = [codes_of(strings(batch, name), vocabularies[name]) + 1 for name in self.spec.columns]
        return np.stack(found, axis=1)

    @property
    def sizes(self) -> list[int]:
        return [len(self.state["vocabularies"][name]) + 1 for name in self.spec.columns]


class OneHot(_Categories):
    """Each category as a block of 0/1 values; the first of the block says `unknown`."""

    kind = "one_hot@1"

    def apply(self, batch: pa.RecordBatch) -> Array:
        starts = np.cumsum([0, *self.sizes[:-1]])
        out = np.zeros((batch.num_rows, sum(self.sizes)), dtype=np.float32)
        np.put_along_axis(out, self.codes(batch) + starts, 1.0, axis=1)
        return out

    @property
    def tensor(self) -> TensorSpec:
        return TensorSpec(name=self.spec.output, dtype="float32", shape=("batch", sum(self.sizes)))


class Ordinal(_Categories):
    """Each category as its code, for an embedding table of `len(vocabulary) + 1` rows."""

    kind = "ordinal@1"

    def apply(self, batch: pa.RecordBatch) -> Array:
        return self.codes(batch)

    @property
    def tensor(self) -> TensorSpec:
        return TensorSpec(name=self.spec.output, dtype="int64", shape=("batch", len(self.spec.columns)))


class _Vocabularies:
    """The schema's vocabulary where it has one (its order is the user's), else the values seen, sorted."""

    def __init__(self, columns: Sequence[ColumnSpec]) -> None:
        self.columns = columns
        self.seen: dict[str, set[str]] = {c.name: set() for c in columns if c.vocabulary is None}

    def observe(self, batch: pa.RecordBatch) -> None:
        for name, values in self.seen.items():
            values.update(strings(batch, name).unique().drop_null().to_pylist())

    def finish(self) -> State:
        vocabularies = {c.name: list(c.vocabulary or sorted(self.seen.get(c.name, ()))) for c in self.columns}
        return {"vocabularies": vocabularies}


def codes_of(values: pa.Array, vocabulary: Sequence[str]) -> Array:
    """Position of each string in the vocabulary, int64; -1 where it is null or absent."""
    found = pc.index_in(values, value_set=pa.array(vocabulary, pa.string()), skip_nulls=True)
    return cast(Array, pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64))
