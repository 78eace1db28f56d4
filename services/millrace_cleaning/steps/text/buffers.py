"""A column of text as kernels see it: the bytes of all rows, and where each row begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of UTF-8, not copied from Arrow.

    Attributes:
        offsets: (rows + 1,): row i is data[offsets[i]:offsets[i + 1]].
        data: All rows' bytes.
        valid: (rows,): false for a null.
    """

    offsets: Ints
    data: Bytes
    valid: Flags

    @property
    def num_rows(self) -> int:
        return len(self.valid)


def texts_of(array: pa.Array) -> Texts:
    """Return the buffers of a string column; a null row is empty."""
    wide = pa.types.is_large_string(array.type)
    num, first = len(array), array.offset
    _, places, content = array.buffers()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if places is None or not num:
        return Texts(np.zeros(num + 1, dtype=np.int64), np.frombuffer(b"", dtype=np.uint8), valid)
    offsets = np.frombuffer(places, dtype=np.int64 if wide else np.int32)[first : first + num + 1].astype(np.int64)
    data = np.frombuffer(content, dtype=np.uint8) if content is not None else np.zeros(0, dtype=np.uint8)
    data.flags.writeable = False  # some of Arrow's buffers are, some are not, and kernels would be compiled for both
    return Texts(offsets, data, valid)


def array_of(offsets: Ints, data: Bytes, valid: Flags, type_: pa.DataType) -> pa.Array:
    """Return rows as an Arrow column of type_ (string or large_string), without copying the bytes."""
    narrow = pa.types.is_string(type_)
    if narrow and offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{offsets[-1]:,} bytes do not fit into one column of strings")
    places = pa.py_buffer(np.ascontiguousarray(offsets, dtype=np.int32 if narrow else np.int64))
    mask = None if valid.all() else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(type_, len(valid), [mask, places, pa.py_buffer(data)])
