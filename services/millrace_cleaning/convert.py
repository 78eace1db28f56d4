"""How each column type is stored, and the conversion of any raw array to it; what does not fit becomes null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.contracts.schema import ColumnType
from millrace_cleaning import values

BYTES_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""Images and audio in their original encoding: Hugging Face's layout."""

_PLAIN: dict[ColumnType, pa.DataType] = {
    "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "category": pa.string(), "text": pa.string(),
    "timestamp": values.TIMESTAMP_TYPE, "image": BYTES_TYPE, "audio": BYTES_TYPE, "tokens": pa.list_(pa.int32()),
    "json": pa.string(),
}  # fmt: skip


def storage_type(type_: ColumnType, shape: tuple[int, ...] | None) -> pa.DataType:
    """The Arrow type of a column; one with a shape is a row-major list of float32."""
    if shape is not None:
        return pa.list_(pa.float32(), math.prod(shape))
    return _PLAIN[type_] if type_ != "vector" else pa.list_(pa.float32())


def convert(
    raw: pa.Array, type_: ColumnType, *, shape: tuple[int, ...] | None, vocabulary: tuple[str, ...] | None
) -> pa.Array:
    """Return raw as the type's storage; a value that is not of the type is null."""
    if pa.types.is_null(raw.type):
        return pa.nulls(len(raw), storage_type(type_, shape))
    if shape is not None:
        return _to_fixed_list(raw, math.prod(shape))
    array = _CONVERTERS[type_](raw)
    if type_ == "category" and vocabulary is not None:
        array = pc.if_else(pc.is_in(array, pa.array(list(vocabulary))), array, pa.scalar(None, pa.string()))
    return array


def _to_number(raw: pa.Array) -> pa.Array:
    if pa.types.is_string(raw.type):
        return values.to_number(raw)
    if pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type):
        return raw.cast(pa.float64(), safe=False)
    if pa.types.is_boolean(raw.type):
        return raw.cast(pa.int8()).cast(pa.float64())
    return _nothing(raw, pa.float64())


def _to_integer(raw: pa.Array) -> pa.Array:
    if pa.types.is_string(raw.type):
        return values.to_integer(raw)
    if pa.types.is_integer(raw.type):
        if pa.types.is_uint64(raw.type):
            raw = pc.if_else(pc.less(raw, pa.scalar(2**63, pa.uint64())), raw, pa.scalar(None, pa.uint64()))
        return raw.cast(pa.int64())
    if pa.types.is_floating(raw.type):
        return values.number_to_integer(raw.cast(pa.float64()))
    return raw.cast(pa.int64()) if pa.types.is_boolean(raw.type) else _nothing(raw, pa.int64())


def _to_boolean(raw: pa.Array) -> pa.Array:
    if pa.types.is_boolean(raw.type):
        return raw
    if pa.types.is_string(raw.type) or pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type):
        return values.to_boolean(raw.cast(pa.string()))
    return _nothing(raw, pa.bool_())


def _to_text(raw: pa.Array) -> pa.Array:
    """Numbers are written the shortest way (3.0 is 3), nested values as JSON."""
    if pa.types.is_string(raw.type):
        return raw
    if pa.types.is_floating(raw.type):
        return pc.cast(raw.cast(pa.float64()), pa.string())
    if pa.types.is_integer(raw.type) or pa.types.is_boolean(raw.type) or pa.types.is_temporal(raw.type):
        return pc.cast(raw, pa.string())
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
        return pa.array([_decode(v) for v in raw.to_pylist()], pa.string())
    return _to_json(raw)


def _to_category(raw: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(_to_text(raw))


def _to_timestamp(raw: pa.Array) -> pa.Array:
    if pa.types.is_string(raw.type):
        return values.to_timestamp(raw)
    if pa.types.is_timestamp(raw.type):
        zoned = raw if raw.type.tz else pc.assume_timezone(raw, "UTC")
        return zoned.cast(values.TIMESTAMP_TYPE, safe=False)
    if pa.types.is_date(raw.type):
        return pc.assume_timezone(raw.cast(pa.timestamp("us")), "UTC")
    return _nothing(raw, values.TIMESTAMP_TYPE)


def _to_bytes(raw: pa.Array) -> pa.Array:
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
        content, path = raw.cast(pa.binary()), pa.nulls(len(raw), pa.string())
    elif pa.types.is_struct(raw.type) and raw.type.get_field_index("bytes") >= 0:
        content = pc.struct_field(raw, "bytes")
        if not pa.types.is_binary(content.type) and not pa.types.is_large_binary(content.type):
            return _nothing(raw, BYTES_TYPE)
        content = content.cast(pa.binary())
        has_path = raw.type.get_field_index("path") >= 0
        path = pc.struct_field(raw, "path").cast(pa.string()) if has_path else pa.nulls(len(raw), pa.string())
    else:
        return _nothing(raw, BYTES_TYPE)
    return pa.StructArray.from_arrays([content, path], fields=list(BYTES_TYPE), mask=content.is_null())


def _to_tokens(raw: pa.Array) -> pa.Array:
    if not _is_list(raw.type) or not pa.types.is_integer(raw.type.value_type):
        return _nothing(raw, pa.list_(pa.int32()))
    limit = 2**31
    return pa.array(
        [v if v is not None and all(t is not None and 0 <= t < limit for t in v) else None for v in raw.to_pylist()],
        pa.list_(pa.int32()),
    )


def _to_json(raw: pa.Array) -> pa.Array:
    if isinstance(raw.type, pa.JsonType):
        return raw.storage
    return pa.array(
        [
            None if v is None else json.dumps(v, sort_keys=True, separators=(",", ":"), default=str)
            for v in raw.to_pylist()
        ],
        pa.string(),
    )


def _to_fixed_list(raw: pa.Array, size: int) -> pa.Array:
    """Lists, nested as deep as they like, to row-major float32; a row of another length, or with a hole, is null."""
    if not _is_list(raw.type):
        return _nothing(raw, pa.list_(pa.float32(), size))
    rows = np.zeros((len(raw), size), dtype=np.float32)
    bad = np.ones(len(raw), dtype=np.bool_)
    if pa.types.is_fixed_size_list(raw.type) and raw.type.list_size == size and _is_numeric(raw.type.value_type):
        valid = raw.drop_null()
        numbers = valid.flatten().cast(pa.float32(), safe=False)
        block = numbers.fill_null(float("nan")).to_numpy(zero_copy_only=False).reshape(-1, size)
        where = np.flatnonzero(raw.is_valid().to_numpy(zero_copy_only=False))
        good = np.isfinite(block).all(axis=1)
        rows[where[good]], bad[where[good]] = block[good], False
    else:
        for i, value in enumerate(raw.to_pylist()):
            row = _flat(value)
            if row is not None and row.size == size and np.isfinite(row).all():
                rows[i], bad[i] = row, False
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), size, mask=pa.array(bad))


def _flat(value: object) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    try:
        return np.asarray(value, dtype=np.float32).reshape(-1)
    except (ValueError, TypeError):
        return None


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _is_numeric(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _nothing(raw: pa.Array, type_: pa.DataType) -> pa.Array:
    return pa.nulls(len(raw), type_)


_CONVERTERS: dict[ColumnType, Callable[[pa.Array], pa.Array]] = {
    "number": _to_number, "integer": _to_integer, "boolean": _to_boolean, "category": _to_category, "text": _to_text,
    "timestamp": _to_timestamp, "image": _to_bytes, "audio": _to_bytes, "tokens": _to_tokens, "json": _to_json,
}  # fmt: skip
