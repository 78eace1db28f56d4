"""Turning raw columns into typed ones: what cannot be read becomes null and is counted, and null rules are applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace_cleaning import values
from millrace_cleaning.convert import convert, storage_type
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.read.rows import by_sort, rejoined
from millrace_cleaning.steps.findings import Findings

STEP = "repair"
"""Under which name the account says what is done here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch stands, for messages: the file, and where in it each row stands, from 0."""

    path: str
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A batch with the plan's columns and types; which of its rows stay (not yet filtered); and what was done."""

    batch: pa.RecordBatch
    keep: npt.NDArray[np.bool_]
    findings: Findings


def repair(batch: pa.RecordBatch, plan: CleaningPlan, *, null_values: Sequence[str], place: Place) -> Repaired:
    """Give the batch the plan's columns.

    Rules: `unparseable` (a value became null), `null` (the row goes), `imputed` (the null is filled in when it is written).

    Raises:
        InvalidData: A value or a null that its column's policy does not allow; the message has the file and the row.
    """
    arrays = []
    keep = np.ones(batch.num_rows, dtype=np.bool_)
    findings = Findings()
    for column in plan.source_columns:
        array = _typed(batch, column, null_values, place, findings)
        is_null = array.is_null().to_numpy(zero_copy_only=False)
        if column.on_null == "fail" and is_null.any():
            _refuse_null(column, place, int(np.argmax(is_null)))
        if column.on_null == "drop":
            findings.add(np.flatnonzero(is_null & keep), action="removed", rule="null", column=column.name)
            keep &= ~is_null
        if column.on_null == "impute":
            findings.add(np.flatnonzero(is_null & keep), action="changed", rule="imputed", column=column.name)
        arrays.append(array)
    schema = pa.schema([pa.field(c.name, storage_type(c.type, c.shape)) for c in plan.source_columns])
    # Without columns Arrow forgets the number of rows, but a plan always has a feature.
    return Repaired(pa.RecordBatch.from_arrays(arrays, schema=schema), keep, findings)


def _typed(
    batch: pa.RecordBatch, column: PlannedColumn, null_values: Sequence[str], place: Place, findings: Findings
) -> pa.Array:
    index = batch.schema.get_field_index(column.name)
    if index < 0:
        return pa.nulls(batch.num_rows, storage_type(column.type, column.shape))
    raw = batch.column(index)
    parts = [_converted(values, column, null_values) for values in by_sort(raw)]
    array = rejoined([part for part, _ in parts], raw)
    bad = np.flatnonzero(rejoined([is_bad for _, is_bad in parts], raw).to_numpy(zero_copy_only=False))
    if len(bad) and column.on_unparseable == "fail":
        number = int(place.rows[bad[0]]) + 1
        shown = "its value" if column.is_private else _shown(raw[int(bad[0])])
        raise errors.InvalidData(
            f"{place.path}, row {number}, column {column.name!r}: {shown} is no {column.type}{_detail(column)}.",
            remedy="Correct it, or say `on_unparseable: nullify`.",
            field=f"with.columns.{column.name}",
            row=number,
        )
    findings.add(bad, action="changed", rule="unparseable", column=column.name)
    return array


def _converted(raw: pa.Array, column: PlannedColumn, null_values: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """(values as the column's type, which of them are not of it)."""
    raw = _without_blanks(raw, column, null_values)
    array = convert(raw, column.type, shape=column.shape, vocabulary=column.vocabulary)
    return _fit(array, storage_type(column.type, column.shape)), pc.and_(raw.is_valid(), array.is_null())


def _without_blanks(raw: pa.Array, column: PlannedColumn, null_values: Sequence[str]) -> pa.Array:
    """Null what only looks like a value: NaN, blank text, and in a column that is no text also words such as NA."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_decimal(raw.type) or pa.types.is_float16(raw.type):
        raw = raw.cast(pa.float64())
    if pa.types.is_floating(raw.type):
        return values.finite(raw)
    if pa.types.is_large_string(raw.type) or pa.types.is_string_view(raw.type):
        raw = raw.cast(pa.string())
    if not pa.types.is_string(raw.type):
        return raw
    if column.type == "text":
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(raw), ""), pa.scalar(None, pa.string()), raw)
    return values.trimmed(raw, ("",) if column.type == "category" else null_values)


def _refuse_null(column: PlannedColumn, place: Place, row: int) -> None:
    remedy = "Fill it in, or say `on_null: drop` for this column."
    if column.role == "target":
        remedy = "Fill it in, or say `on_null_target: drop`."
    raise errors.InvalidData(
        f"{place.path}, row {int(place.rows[row]) + 1}: the {column.role} {column.name!r} is null (or NaN).",
        remedy=remedy,
        field=f"with.columns.{column.name}",
        row=int(place.rows[row]) + 1,
    )


def _fit(array: pa.Array, type_: pa.DataType) -> pa.Array:
    return array if array.type == type_ else array.cast(type_)


def _shown(value: pa.Scalar) -> str:
    return json.dumps(value.as_py(), default=str)[:60]


def _detail(column: PlannedColumn) -> str:
    if column.vocabulary is not None:
        return f" of the vocabulary ({', '.join(column.vocabulary[:8])})"
    return f" of shape {list(column.shape)}" if column.shape else ""
