"""How many bytes the rows of a batch hold, whatever its buffers share with other batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def row_bytes(batch: pa.RecordBatch) -> Ints:
    """Return the bytes of each row's values, without what Arrow needs beside them."""
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for array in batch.columns:
        total += _value_bytes(array)
    return total


def _value_bytes(array: pa.Array) -> Ints | int:
    type_ = array.type
    if pa.types.is_struct(type_):
        return sum(_value_bytes(pc.struct_field(array, i)) for i in range(type_.num_fields))
    if pa.types.is_dictionary(type_):
        return _value_bytes(array.dictionary_decode())
    if pa.types.is_fixed_size_list(type_):
        return int(type_.list_size * _width(type_.value_type))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _numbers(pc.list_value_length(array)) * _width(type_.value_type)
    if pa.types.is_string(type_) or pa.types.is_binary(type_) or pa.types.is_large_string(type_):
        return _numbers(pc.binary_length(array))
    return _width(type_)


def _width(type_: pa.DataType) -> int:
    try:
        return max(1, int(type_.bit_width) // 8)
    except ValueError:  # it has no fixed width
        return 8


def _numbers(array: pa.Array) -> Ints:
    found: Ints = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
