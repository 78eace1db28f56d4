"""Small data sets as cleaning writes them, in a directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.schema import Column, ColumnType, DatasetSchema, Role, SplitName
from millrace.datasets.reading import Dataset, open_dataset

SOURCE = "0123456789abcdef"


def column(name: str, type: ColumnType, role: Role = "feature") -> Column:
    return Column(name=name, type=type, role=role)


def make_dataset(
    root: Path, splits: Mapping[SplitName, Sequence[Mapping[str, Any]]], columns: Sequence[Column], *,
    source: str = SOURCE, rows_per_shard: int = 1000, types: Mapping[str, pa.DataType] | None = None,
) -> Dataset:  # fmt: skip
    """Rows by split; a row's `n` is its number in the source, which becomes its row_id."""
    (root / "data").mkdir(parents=True)
    schema = DatasetSchema(columns=tuple(columns))
    for split, rows in splits.items():
        for shard, first in enumerate(range(0, len(rows), rows_per_shard)):
            part = rows[first : first + rows_per_shard]
            table = {"row_id": pa.array([f"{source}-{row['n']}" for row in part])}
            for c in columns:
                table[c.name] = pa.array([row.get(c.name) for row in part], (types or {}).get(c.name))
            pq.write_table(pa.table(table), root / "data" / f"{split}-{shard:05d}.parquet")
    (root / "schema.json").write_bytes(schema.to_json().encode())
    profile = {"splits": {split: len(rows) for split, rows in splits.items()}, "rows_in": 0, "removed": {}}
    (root / "profile.json").write_text(json.dumps(profile))
    return open_dataset(root)
