"""Small data sets in the shape that a clean stage writes, for tests of training."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.schema import ROW_ID, DatasetMeta, DatasetSchema, Shard, SplitName
from millrace.store import Store
from millrace.store.artifacts import write_manifest


def write_dataset(store: Store, schema: DatasetSchema, splits: Mapping[SplitName, pa.Table]) -> ArtifactRef:
    """Store tables as a data set artifact, one shard a split; row ids are added."""
    files: dict[str, bytes] = {"schema.json": schema.to_json().encode(), "profile.json": b"{}"}
    shards = []
    for split, table in splits.items():
        ids = pa.array([f"{split:_<16}-{i}" for i in range(table.num_rows)], pa.string())
        path, sink = f"data/{split}-00000.parquet", io.BytesIO()
        pq.write_table(table.add_column(0, ROW_ID, ids), sink)
        files[path] = sink.getvalue()
        shards.append(Shard(path=path, split=split, num_rows=table.num_rows))
    meta = DatasetMeta(schema_=schema, shards=tuple(shards), num_rows={s.split: s.num_rows for s in shards})
    return write_manifest(store, "dataset", files, meta=json.loads(meta.to_json()))
