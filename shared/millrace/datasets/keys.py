"""Row keys: a 128-bit hash of what a row says, equal for equal rows, whatever file or batch they stand in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UInt64s = npt.NDArray[np.uint64]

_ABSENT, _PRESENT = b"\x00", b"\x01"


def row_keys(batch: pa.RecordBatch, columns: Sequence[str]) -> tuple[UInt64s, UInt64s]:
    """Return the two halves of each row's key over some columns; a null equals a null and nothing else."""
    arrays = [batch.column(name) for name in columns]
    plain = [array for array in arrays if _is_plain(array.type)]
    parts: list[Sequence[bytes]] = [_plain_cells(plain)] if plain else []
    parts += [_cells(array) for array in arrays if not _is_plain(array.type)]
    blake = hashlib.blake2b
    digests = b"".join(blake(b"".join(cells), digest_size=16).digest() for cells in zip(*parts, strict=True))
    halves = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
    return halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)


def value_keys(array: pa.Array) -> UInt64s:
    """Return a 64-bit hash of each value of one column, such as the user a row belongs to."""
    return row_keys(pa.record_batch({"value": array}), ["value"])[0]


def seeded_order(keys: UInt64s, *, seed: int) -> UInt64s:
    """Return a pseudo-random rank value for each key: a bijection (splitmix64) of the key, another for each seed."""
    return _mix(keys ^ _mix(np.array([seed % 2**64], dtype=np.uint64)))


def _mix(values: UInt64s) -> UInt64s:
    """The finalizer of splitmix64 (Steele et al. 2014, figure 17)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _is_plain(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_timestamp(type_)) or bool(
        pa.types.is_boolean(type_)
    )


def _plain_cells(arrays: Sequence[pa.Array]) -> list[bytes]:
    """Fixed-width columns as one block: eight bytes a value, then a byte of validity each."""
    num_rows, num_columns = len(arrays[0]), len(arrays)
    block = np.zeros((num_rows, num_columns * 9), dtype=np.uint8)
    for i, array in enumerate(arrays):
        words = np.ascontiguousarray(_words(array)).view(np.uint8).reshape(num_rows, 8)
        block[:, 8 * i : 8 * i + 8] = words
        block[:, 8 * num_columns + i] = array.is_valid().to_numpy(zero_copy_only=False)
    data, width = block.tobytes(), block.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]


def _words(array: pa.Array) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    if pa.types.is_floating(array.type):
        numbers: npt.NDArray[np.float64] = array.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
        return numbers.astype("<f8") + 0.0  # minus zero equals zero
    integers: npt.NDArray[np.int64] = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return integers.astype("<i8")


def _cells(array: pa.Array) -> list[bytes]:
    """Variable-width values, each with its length before it, so that ("ab", "c") differs from ("a", "bc")."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        filled = pc.if_else(array.is_valid(), array, pa.scalar([0.0] * size, array.type))
        rows = filled.flatten().to_numpy(zero_copy_only=False).reshape(len(array), size).astype("<f4") + np.float32(0)
        values = [row.tobytes() for row in rows]
        mask = array.is_valid().to_pylist()
        return [_PRESENT + v if ok else _ABSENT for v, ok in zip(values, mask, strict=True)]
    if pa.types.is_struct(array.type):
        array = pc.struct_field(array, "bytes")  # where an image came from does not make it another image
    if pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type):
        return [_ABSENT if v is None else _PRESENT + len(v).to_bytes(8, "little") + v for v in array.to_pylist()]
    return [_ABSENT if v is None else _PRESENT + repr(v).encode() + b"\n" for v in array.to_pylist()]
