"""Rows that arrive one by one as batches: so many rows, and so many bytes, at most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from millrace_cleaning.read.rejects import BadFile

ROWS_PER_BATCH = 8192
BYTES_PER_BATCH = 32 * 2**20
"""A batch is closed when its rows took more bytes than this in their file."""

JSON_TYPE = pa.json_(pa.string())
"""Nested values as JSON text."""

MEDIA_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""Images and audio in their original encoding: Hugging Face's layout."""


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a sound in its original encoding, and where it was."""

    content: bytes
    path: str


_SORTS: dict[type, str] = {
    type(None): "", bool: "bool", int: "int", float: "float", str: "text", dict: "json", Media: "media",
}  # fmt: skip
_ARROW = {
    "": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "wide": pa.int64(), "float": pa.float64(), "text": pa.string(),
}  # fmt: skip
_LISTED = {"bool": {"bool"}, "int": {"int"}, "wide": {"int", "wide"}, "float": {"int", "float"}}
"""As what lists of such numbers are kept."""


def to_batches(rows: Iterable[tuple[Mapping[str, Any], int]]) -> Iterator[pa.RecordBatch]:
    """Yield batches of (row, its size in bytes); columns are the keys seen in a batch, in order of appearance.

    Where rows end in a BadFile, those before it are yielded first.
    """
    pending: list[Mapping[str, Any]] = []
    size = 0
    try:
        for row, size_bytes in rows:
            pending.append(row)
            size += size_bytes
            if len(pending) == ROWS_PER_BATCH or size > BYTES_PER_BATCH:
                yield to_batch(pending)
                pending, size = [], 0
    except BadFile:
        if pending:
            yield to_batch(pending)  # rows before the fault are kept
        raise
    if pending:
        yield to_batch(pending)


def to_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        # Arrow keeps no row count without a column
        return pa.record_batch({"value": pa.nulls(len(rows))})
    return pa.record_batch({name: _to_array([row.get(name) for row in rows]) for name in names})


def by_sort(column: pa.Array) -> list[pa.Array]:
    """The arrays that a column is made of: one for each sort of its values."""
    return [column.field(i) for i in range(column.type.num_fields)] if pa.types.is_union(column.type) else [column]


def rejoined(arrays: Sequence[pa.Array], column: pa.Array) -> pa.Array:
    """Arrays of one type that were made of `by_sort(column)`, one value for each, in the column's order."""
    if not pa.types.is_union(column.type):
        return arrays[0]
    starts = np.cumsum([0, *map(len, arrays)])
    return pa.concat_arrays(arrays).take(pa.array(starts[column.type_codes.to_numpy()] + column.offsets.to_numpy()))


def coalesced(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches of one schema."""
    pending: list[pa.RecordBatch] = []
    num_rows = size = 0
    for batch in batches:
        if pending and (num_rows + batch.num_rows > ROWS_PER_BATCH or size + batch.nbytes > BYTES_PER_BATCH):
            yield pa.concat_batches(pending)
            pending, num_rows, size = [], 0, 0
        pending.append(batch)
        num_rows, size = num_rows + batch.num_rows, size + batch.nbytes
    if pending:
        yield pending[0] if len(pending) == 1 else pa.concat_batches(pending)


def in_slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch whose rows are large into several."""
    step = max(1, batch.num_rows * BYTES_PER_BATCH // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, min(step, ROWS_PER_BATCH)):
        yield batch.slice(start, min(step, ROWS_PER_BATCH))


def _to_array(values: Sequence[Any]) -> pa.Array:
    """A column whose Arrow type says what each value was: of values of several sorts, a union of an array for each.

    A value's sort depends on the value alone, so what becomes of it does not depend on which others are in its batch.
    """
    sorts = [_sort(value) for value in values]
    found = sorted({sort for sort in sorts if sort})
    if len(found) < 2:
        return _array_of(found[0] if found else "", values)
    codes = np.array(
        [found.index(sort or found[0]) for sort in sorts], dtype=np.int8
    )  # a null stands in the first array
    offsets = np.empty(len(values), dtype=np.int32)
    arrays = []
    for code, sort in enumerate(found):
        places = np.flatnonzero(codes == code)
        offsets[places] = np.arange(len(places))
        arrays.append(_array_of(sort, [values[place] for place in places.tolist()]))
    return pa.UnionArray.from_dense(pa.array(codes), pa.array(offsets), arrays, found)


def _sort(value: Any) -> str:
    """What a value is: nothing of null; of lists of numbers, a bracket for each level before what the numbers are.

    An integer is `wide` if floats do not hold it, `long` if 64 bits do not.
    """
    kind = type(value)
    if kind is int:
        return "int" if abs(value) <= 2**53 else "wide" if -(2**63) <= value < 2**63 else "long"
    if kind is list:
        is_plain = {*map(type, value)} == {float}  # such as an embedding: not looked at one by one
        return _list_sort({"float"} if is_plain else {_sort(item) for item in value} - {""})
    return _SORTS[kind]


def _list_sort(inner: set[str]) -> str:
    depths = {sort.count("[") for sort in inner}
    numbers = {sort.lstrip("[") for sort in inner} or {"int"}
    of_one_type = next((name for name, sorts in _LISTED.items() if numbers <= sorts), "json")
    return "json" if len(depths) > 1 or of_one_type == "json" else "[" * (1 + max(depths, default=0)) + of_one_type


def _array_of(sort: str, values: Sequence[Any]) -> pa.Array:
    if sort == "json":
        texts = [None if v is None else json.dumps(v, sort_keys=True, separators=(",", ":")) for v in values]
        return pa.ExtensionArray.from_storage(JSON_TYPE, pa.array(texts, pa.string()))
    if sort == "media":
        return pa.array([None if v is None else {"bytes": v.content, "path": v.path} for v in values], MEDIA_TYPE)
    if sort == "long":  # beyond 64 bits: as text, which is a number to who wants one
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    depth = sort.count("[")
    type_ = _ARROW[sort[depth:]]
    for _ in range(depth):
        type_ = pa.list_(type_)
    return pa.array(values, type_)
