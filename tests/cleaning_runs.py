"""Runs the clean stage without a worker, round after round, and opens what it made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetMeta
from millrace.runtime.stage import Context, Inputs, NextPlan, Task, local_context
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning import stage
from millrace_cleaning.settings import CleanConfig


@dataclass(frozen=True)
class Cleaned:
    """A data set that the stage made."""

    ref: ArtifactRef
    meta: DatasetMeta
    splits: dict[str, pa.Table]
    profile: dict[str, Any]
    summary: dict[str, Any]
    num_tasks: int

    def rows(self, column: str) -> list[Any]:
        """A column of all splits."""
        return [value for table in self.splits.values() for value in table[column].to_pylist()]

    def column(self, name: str) -> Column:
        found = self.meta.schema_.column(name)
        assert found is not None
        return found

    def split_of(self, column: str) -> dict[Any, str]:
        """Which split each value of a column is in."""
        return {value: split for split, table in self.splits.items() for value in table[column].to_pylist()}


def clean(root: Path, files: Mapping[str, bytes | pa.Table], *, seed: int = 0, **config: Any) -> Cleaned:
    """Clean files (manifest path -> bytes, or a table that is written as Parquet)."""
    store = LocalStore(root / "store", tenant="default")
    ref = write_manifest(store, "source", {path: _bytes(content) for path, content in files.items()}, meta={})
    with local_context(store, root, seed=seed) as context:
        made, num_tasks = _run(context, CleanConfig.model_validate(config), {"raw": context.open_artifact(ref)})
        dataset = context.open_artifact(made.artifacts["dataset"])
        meta = DatasetMeta.model_validate(dataset.meta)
        splits = {
            name: pa.concat_tables([pq.read_table(dataset.file(s.path)) for s in meta.of(name)])
            for name in ("train", "validation", "test")
            if meta.of(name)
        }
        profile = json.loads(dataset.read("profile.json"))
    return Cleaned(made.artifacts["dataset"], meta, splits, profile, dict(made.summary), num_tasks)


def _run(context: Context, config: CleanConfig, inputs: Inputs) -> tuple[StageOutputs, int]:
    tasks: Sequence[Task] = stage.plan(context, config, inputs)
    while True:
        results = [stage.work(context, config, inputs, json.loads(json.dumps(task))) for task in tasks]
        if isinstance(results[0], StageOutputs):
            return results[0], len(tasks)
        assert all(len(json.dumps(result)) <= 4096 for result in results)
        merged = stage.merge(context, config, inputs, [r for r in results if not isinstance(r, StageOutputs)])
        if not isinstance(merged, NextPlan):
            return merged, len(tasks)
        tasks = merged.tasks


def _bytes(content: bytes | pa.Table) -> bytes:
    if isinstance(content, bytes):
        return content
    sink = io.BytesIO()
    pq.write_table(content, sink, row_group_size=50)
    return sink.getvalue()


def csv_of(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in [header, *rows]).encode() + b"\n"
