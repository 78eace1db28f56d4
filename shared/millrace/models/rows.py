"""Rows as people send them (JSON objects) to Arrow batches by a model's signature, and answers back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.models.ops.base import column
from millrace.models.signature import ColumnSpec, Signature


def to_batch(rows: Sequence[Mapping[str, Any]], signature: Signature) -> pa.RecordBatch:
    """Rows to a batch of exactly the signature's columns.

    A nullable column may be left out. A category that training never saw is allowed: featurizers know `unknown`.

    Raises:
        InvalidData: The field is `rows[i].column`: unknown, missing, null, of a wrong type, not finite, of another
            length.
    """
    names = [c.name for c in signature.columns]
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise errors.InvalidData(
                f"Expected an object, got {_kind(row)}.", field=f"rows[{index}]", remedy=f'Send {{"{names[0]}": ...}}.'
            )
        for name in row:
            if name not in names:
                raise errors.InvalidData(
                    f"The model has no column {name!r}; {errors.nearest(str(name), names)}",
                    field=f"rows[{index}].{name}",
                )
    types = [arrow_type(c) for c in signature.columns]
    arrays = [
        pa.array([_value(row, i, c) for i, row in enumerate(rows)], kind)
        for c, kind in zip(signature.columns, types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=names)


def from_batch(batch: pa.RecordBatch, signature: Signature) -> list[dict[str, Any]]:
    """Answers as JSON objects; probabilities by label."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    for output in signature.outputs:
        if output.meaning == "probabilities" and output.labels:
            for row in rows:
                row[output.name] = dict(zip(output.labels, row[output.name], strict=True))
    return rows


def check_batch(batch: pa.RecordBatch, signature: Signature) -> None:
    """Refuse a batch that the model cannot answer. Further columns, such as row_id, are allowed.

    Raises:
        InvalidData: A column is missing, of a wrong type, or has a null or a number that is not finite; names the row.
    """
    for spec in signature.columns:
        array = column(batch, spec.name)
        if not _TYPE_CHECKS.get(spec.type, _anything)(array.type):
            raise errors.InvalidData(
                f"Column {spec.name!r} holds {array.type}, expected {spec.type}.", field=spec.name,
                remedy="Send the columns that the model was trained on.",
            )  # fmt: skip
        if array.null_count and not spec.nullable:
            row = pc.index(array.is_null(), True).as_py()
            raise errors.InvalidData(
                f"Column {spec.name!r} is null in row {row}; the training data had a value in every row.",
                field=spec.name, remedy="Send a value.",
            )  # fmt: skip
        if pa.types.is_floating(array.type):
            wrong = pc.fill_null(pc.invert(pc.is_finite(array)), False)
            if pc.any(wrong).as_py():
                row = pc.index(wrong, True).as_py()
                raise errors.InvalidData(
                    f"Column {spec.name!r} is {array[row].as_py()} in row {row}, expected a finite number.",
                    field=spec.name, remedy="Send null where a value is missing.",
                )  # fmt: skip


def arrow_type(spec: ColumnSpec) -> pa.DataType:
    """How a column that a user sends is held.

    Raises:
        InvalidData: This version cannot take such a column as JSON.
    """
    if spec.type in ("image", "vector") and spec.shape:
        return pa.list_(pa.float32(), math.prod(spec.shape))
    kind = _ARROW.get(spec.type)
    if kind is None:
        raise errors.InvalidData(
            f"A column of type {spec.type} cannot be sent as JSON.", field=spec.name, remedy="Predict from a file."
        )
    return kind


_ARROW = {
    "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "category": pa.string(), "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}  # fmt: skip


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _anything(kind: pa.DataType) -> bool:
    return kind is not None


_TYPE_CHECKS: dict[str, Callable[[pa.DataType], bool]] = {
    "number": _is_number,
    "integer": _is_number,
    "boolean": pa.types.is_boolean,
    "category": _is_text,
    "text": _is_text,
    "timestamp": pa.types.is_timestamp,
}


def _value(row: Mapping[str, Any], index: int, spec: ColumnSpec) -> Any:
    value = row.get(spec.name)
    if value is None:
        if spec.nullable:
            return None
        what = "is null" if spec.name in row else "is missing"
        raise errors.InvalidData(
            f"Column {spec.name!r} {what}, expected {_EXPECTED.get(spec.type, spec.type)}.",
            field=f"rows[{index}].{spec.name}",
        )
    converted = _array(value, spec.shape) if spec.shape else _CONVERT[spec.type](value)
    if converted is None:
        raise errors.InvalidData(f"Expected {_expected(spec)}, got {_kind(value)}.", field=f"rows[{index}].{spec.name}")
    return converted


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e308 else None


def _integer(value: Any) -> int | None:
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
    return int(value) if is_whole and value == int(value) else None


def _category(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _timestamp(value: Any) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _array(value: Any, shape: tuple[int, ...]) -> list[float] | None:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    size = math.prod(shape)
    fits = array.size == size and array.shape in ((size,), shape) and bool(np.isfinite(array).all())
    return array.ravel().tolist() if fits else None


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "number": _number,
    "integer": _integer,
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "category": _category,
    "text": lambda value: value if isinstance(value, str) else None,
    "timestamp": _timestamp,
}

_EXPECTED = {
    "number": "a finite number", "integer": "a whole number", "boolean": "true or false", "category": "a string",
    "text": "a string", "timestamp": "an ISO 8601 time such as 2026-01-31T12:00:00Z",
}  # fmt: skip


def _expected(spec: ColumnSpec) -> str:
    if spec.shape and spec.type in ("image", "vector"):
        return f"{' x '.join(map(str, spec.shape))} finite numbers"
    return _EXPECTED.get(spec.type, spec.type)


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    names = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", dict: "an object"}
    return names.get(type(value), type(value).__name__)
