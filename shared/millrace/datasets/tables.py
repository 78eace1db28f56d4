"""Writing a table where people want it: Parquet, CSV or lines of JSON."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from millrace import errors


def write_table(table: pa.Table, target: Path) -> None:
    """Write a table as its file's ending says.

    Raises:
        InvalidInput: The ending is none of .parquet, .csv and .jsonl, or CSV cannot hold a column.
    """
    match target.suffix.lower():
        case ".parquet":
            pq.write_table(table, target, compression="zstd")
        case ".jsonl":
            with target.open("w", encoding="utf-8") as stream:
                write_jsonl(table, stream)
        case ".csv":
            nested = next((f.name for f in table.schema if pa.types.is_nested(f.type)), None)
            if nested is not None:
                raise errors.InvalidInput(
                    f"CSV cannot hold the column {nested!r}.", remedy="Write .parquet or .jsonl.", field="--out"
                )
            pyarrow.csv.write_csv(table, target)
        case other:
            raise errors.InvalidInput(f"{other or 'No ending'}: expected .parquet, .csv or .jsonl.", field="--out")


def write_jsonl(table: pa.Table, stream: IO[str]) -> None:
    """Write each row as a JSON object; bytes as base64."""
    for batch in table.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            stream.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    assert isinstance(value, datetime), type(value)
    return value.isoformat()
