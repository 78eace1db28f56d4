"""Rows that arrive one by one as batches: so many rows, and so many bytes, at most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millrace_cleaning.read.rejects import BadFile

ROWS_PER_BATCH = 8192
BYTES_PER_BATCH = 32 * 2**20
"""A batch is closed when its rows took more bytes than this in their file."""

JSON_TYPE = pa.json_(pa.string())
"""Nested values as JSON text. What Arrow would make of them depends on which other rows are in the batch."""

MEDIA_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""Images and audio in their original encoding: Hugging Face's layout."""


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a sound in its original encoding, and where it was."""

    content: bytes
    path: str


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
    if any(isinstance(v, dict) for v in values) and all(v is None or isinstance(v, dict | list) for v in values):
        texts = [None if v is None else _dumped(v) for v in values]
        return pa.ExtensionArray.from_storage(JSON_TYPE, pa.array(texts, pa.string()))
    if any(isinstance(v, Media) for v in values):
        return pa.array([None if v is None else {"bytes": v.content, "path": v.path} for v in values], MEDIA_TYPE)
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # mixed kinds, or an integer beyond 64 bits: as text, repaired later
        return pa.array([_as_text(v) for v in values], pa.string())


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):  # as a column of floats is written where there are no others: 3.0 is 3
        return str(pa.scalar(value).cast(pa.string()).as_py())
    return _dumped(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
