"""A string column with parts of its texts replaced, made from its bytes: no row becomes a Python string."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace_cleaning.steps.pii.find import Hits
from millrace_cleaning.steps.pii.prefilter import buffers_of

_MAX_BYTES = 2**31 - 1


def replaced(column: pa.Array, hits: Hits, replacements: Sequence[bytes]) -> pa.Array:
    """Return the column with each hit replaced.

    Args:
        column: A string array.
        replacements: One for each hit, UTF-8.

    Raises:
        InvalidData: The texts of a batch grow beyond 2 GiB.
    """
    if not len(hits.rows):
        return column
    data, offsets = buffers_of(column)
    pieces: list[bytes | memoryview] = []
    view = data.data  # a memoryview
    places = [
        int(offsets[0]),
        *(p for pair in zip(hits.begins.tolist(), hits.ends.tolist(), strict=True) for p in pair),
    ]
    places.append(int(offsets[-1]))
    for i, (begin, end) in enumerate(pairwise(places)):
        pieces.append(replacements[i // 2] if i % 2 else view[begin:end])
    grown = np.array([len(r) for r in replacements], dtype=np.int64) - (hits.ends - hits.begins)
    by_row = np.bincount(hits.rows, weights=grown, minlength=len(column)).astype(np.int64)
    new_offsets = offsets - offsets[0]
    new_offsets[1:] += np.cumsum(by_row)
    is_large = pa.types.is_large_string(column.type)
    if not is_large and int(new_offsets[-1]) > _MAX_BYTES:
        raise errors.InvalidData(
            "With tokens in it the text of a batch is longer than 2 GiB.",
            remedy="Split very long texts, or mask instead.",
        )
    buffers = [
        None,
        pa.py_buffer(new_offsets.astype(np.int64 if is_large else np.int32)),
        pa.py_buffer(b"".join(pieces)),
    ]
    array = pa.Array.from_buffers(column.type, len(column), buffers)
    if not column.null_count:
        return array
    valid = pa.array(column.is_valid()).buffers()[1]
    return pa.Array.from_buffers(column.type, len(column), [valid, *buffers[1:]], null_count=column.null_count)
