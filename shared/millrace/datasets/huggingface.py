"""Export in the layout that Hugging Face's `datasets` loads from a directory: `load_dataset(directory)`.

Source: the `datasets` documentation on repository structure, and the feature description it keeps in Parquet metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from millrace import errors
from millrace.contracts.schema import ROW_ID, Column, SplitName
from millrace.datasets.reading import Dataset

_NOTE = "Made by Millrace. Columns and what was done to the rows: `schema.json`, `profile.json`."


def export(dataset: Dataset, target: Path, *, name: str) -> list[Path]:
    """Write a data set for `datasets.load_dataset(target)`; return the files.

    Images and audio become its Image and Audio features, which decode when a row is read. Categories stay text.

    Args:
        target: A directory that does not exist or is empty.

    Raises:
        InvalidInput: The directory has something in it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise errors.InvalidInput(f"{target} is not an empty directory.", remedy="Give another one.", field="target")
    (target / "data").mkdir(parents=True)
    written = []
    for split, shards in _splits(dataset).items():
        for number, shard in enumerate(shards):
            written.append(target / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
            _copy(shard, written[-1], dataset)
    for kept in ("schema.json", "profile.json"):
        written.append(target / kept)
        written[-1].write_bytes((dataset.root / kept).read_bytes())
    card = target / "README.md"
    card.write_text(_card(dataset, name), encoding="utf-8")
    return [*written, card]


def _splits(dataset: Dataset) -> Mapping[SplitName, list[Path]]:
    found: dict[SplitName, list[Path]] = {}
    for split in ("train", "validation", "test"):
        if shards := dataset.shards(split):
            found[split] = shards
    return found


def _copy(shard: Path, target: Path, dataset: Dataset) -> None:
    with pq.ParquetFile(shard) as file:
        features = {ROW_ID: _feature(pa.string(), None)}
        features |= {c.name: _feature(file.schema_arrow.field(c.name).type, c) for c in dataset.schema.columns}
        about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        schema = file.schema_arrow.with_metadata({**(file.schema_arrow.metadata or {}), **about})
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for group in range(file.metadata.num_row_groups):
                writer.write_table(file.read_row_group(group).replace_schema_metadata(schema.metadata))


def _feature(type_: pa.DataType, column: Column | None) -> dict[str, Any]:
    """A column's type in the words of `datasets`."""
    if column is not None and column.shape is None and column.type in ("image", "audio"):
        return {"_type": column.type.capitalize()}
    if pa.types.is_fixed_size_list(type_):
        return {"_type": "List", "feature": _feature(type_.value_type, None), "length": type_.list_size}
    if pa.types.is_list(type_):
        return {"_type": "List", "feature": _feature(type_.value_type, None)}
    return {"_type": "Value", "dtype": _dtype(type_)}


def _dtype(type_: pa.DataType) -> str:
    if pa.types.is_timestamp(type_):
        return f"timestamp[{type_.unit}, tz={type_.tz}]" if type_.tz else f"timestamp[{type_.unit}]"
    return {"double": "float64", "float": "float32"}.get(str(type_), str(type_))


def _card(dataset: Dataset, name: str) -> str:
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in _splits(dataset)]
    head = io.StringIO()
    YAML().dump({"pretty_name": name, "configs": [{"config_name": "default", "data_files": files}]}, head)
    rows = dataset.profile.get("splits", {})
    lines = [f"| {c.name} | {c.type} | {c.role} | {c.unit} |" for c in dataset.schema.columns]
    table = "\n".join(["| column | type | role | unit |", "|---|---|---|---|", *lines])
    counts = ", ".join(f"{split} {count:,}" for split, count in rows.items())
    return f"---\n{head.getvalue()}---\n\n# {name}\n\n{_NOTE}\n\nRows: {counts}\n\n{table}\n"
