"""What an operation is: fitted once on the training split, then a pure function from a batch to a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.models.signature import ColumnSpec, FeaturizerOp, TensorSpec

Array = npt.NDArray[Any]
State = dict[str, Any]
"""What fitting learned: arrays (kept as safetensors) or lists of strings (kept as JSON)."""


class Fitter(Protocol):
    """Learns an operation's state in one pass over the training split."""

    def observe(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> State: ...


class NothingToFit:
    """The fitter of an operation that its arguments define whole."""

    def observe(self, batch: pa.RecordBatch) -> None:
        """Learn nothing."""

    def finish(self) -> State:
        return {}


class Op(ABC):
    """A fitted operation.

    Attributes:
        kind: `name@version`, as in the package; what it computes never changes under its version.
        suffix: How the state is stored: `.safetensors`, `.json`, or empty if there is none.
        takes: Column types it accepts.
        defaults: Its arguments with their default values.
    """

    kind: ClassVar[str]
    suffix: ClassVar[Literal["", ".safetensors", ".json"]] = ""
    takes: ClassVar[tuple[str, ...]]
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, spec: FeaturizerOp, state: State) -> None:
        self.spec = spec
        self.state = state
        self.arguments = {**self.defaults, **spec.arguments}

    @classmethod
    def fitter(cls, spec: FeaturizerOp, columns: Sequence[ColumnSpec]) -> Fitter:  # noqa: ARG003 - most have nothing to fit
        """A fitter for the spec's columns, which are given in the spec's order."""
        return NothingToFit()

    @abstractmethod
    def apply(self, batch: pa.RecordBatch) -> Array:
        """The tensor of this batch; its first dimension is the batch's rows."""

    @property
    @abstractmethod
    def tensor(self) -> TensorSpec:
        """Name, type and shape of what `apply` returns."""


def column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The batch's column by name.

    Raises:
        InvalidData: There is none; the message names the nearest.
    """
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise errors.InvalidData(
            f"The data has no column {name!r}; {errors.nearest(name, batch.schema.names)}",
            field=name,
            remedy="Send the columns that the model was trained on.",
        )
    return batch.column(index)


def numbers(batch: pa.RecordBatch, name: str) -> Array:
    """A column as float64 of shape (rows, width); a missing value is NaN. Timestamps are seconds since 1970."""
    array = column(batch, name)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _vectors(array, name)
    if pa.types.is_timestamp(kind):
        micros = pc.cast(pc.cast(array, pa.timestamp("us", tz=kind.tz), safe=False), pa.int64())
        return _float64(micros)[:, None] / 1e6
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise errors.InvalidData(
            f"Column {name!r} holds {kind}, expected numbers.", field=name, remedy="Send numbers in this column."
        )
    return _float64(array)[:, None]


def _float64(array: pa.Array) -> Array:
    values: Array = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _vectors(array: pa.Array, name: str) -> Array:
    lengths = pc.list_value_length(array).drop_null().to_numpy(zero_copy_only=False)
    width = int(lengths[0]) if len(lengths) else 0
    if np.any(lengths != width):
        row = int(np.flatnonzero(lengths != width)[0])
        raise errors.InvalidData(
            f"Column {name!r} holds vectors of {width} and of {int(lengths[row])} numbers, expected one length.",
            field=name, remedy="Give every row the same number of values.",
        )  # fmt: skip
    out = np.full((len(array), width), np.nan)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    out[valid] = _float64(array.flatten()).reshape(-1, width)
    return out


def strings(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column as Arrow strings; nulls stay null."""
    array = column(batch, name)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type):
        return array
    try:
        return pc.cast(array, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise errors.InvalidData(
            f"Column {name!r} holds {array.type}, expected text.", field=name, remedy="Send strings in this column."
        ) from error
