"""Reading JSON lines: one object a line; a key that is absent is null."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace import errors


def read_jsonl(local: Path, path: str, *, encoding: str, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    """Yield batches whose columns are the keys seen in them, in order of appearance.

    Raises:
        InvalidData: A line is no JSON object, has a key twice, or is badly encoded; the message has its number.
    """
    rows: list[dict[str, Any]] = []
    with local.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            row = _decode(line, path, number, encoding)
            if row is not None:
                rows.append(row)
            if len(rows) == rows_per_batch:
                yield _to_batch(rows)
                rows = []
    if rows:
        yield _to_batch(rows)


def _decode(line: bytes, path: str, number: int, encoding: str) -> dict[str, Any] | None:
    try:
        text = line.decode("utf-8-sig" if number == 1 and encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        raise errors.InvalidData(
            f"{path}, line {number}: the bytes are not {encoding}.",
            remedy="Say which encoding it is, such as `encoding: latin-1`.",
            field="with.encoding",
        ) from error
    if not text.strip():
        return None
    try:
        row = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidData(
            f"{path}, line {number}: not JSON ({str(error)[:120]}).",
            remedy="Write one JSON object a line; the file may be truncated.",
            line=number,
        ) from error
    if not isinstance(row, dict):
        raise errors.InvalidData(
            f"{path}, line {number}: expected a JSON object, found {type(row).__name__}.",
            remedy='Write each line as {"column": value, ...}.',
            line=number,
        )
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the key {twice!r} stands twice")
    return result


def _to_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        # Arrow keeps no row count without a column
        return pa.record_batch({"value": pa.nulls(len(rows))})
    return pa.record_batch({name: _to_array(name, rows) for name in names})


def _to_array(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(name) for row in rows]
    try:
        return pa.array(values)
    except UnicodeEncodeError as error:
        raise errors.InvalidData(
            f"A text in column {name!r} holds half of a surrogate pair, which no encoding can write.",
            remedy="Remove lone \\ud800 to \\udfff escapes from the file.",
            field=name,
        ) from error
    except (pa.ArrowException, OverflowError):  # mixed kinds, or an integer beyond 64 bits: as text, repaired later
        texts = [v if v is None or isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values]
        return pa.array(texts, pa.string())
