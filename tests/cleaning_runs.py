"""Runs the clean stage without a worker, round after round, and opens what it made."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetMeta
from millrace.runtime.stage import Context, Inputs, NextPlan, Result, Task, local_context
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning import stage
from millrace_cleaning.account import ACCOUNT
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
    account: pa.Table
    quarantine: pa.Table

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


def clean(
    root: Path, files: Mapping[str, bytes | pa.Table], *, lists: Mapping[str, bytes] | None = None, seed: int = 0,
    disorder: int | None = None, **config: Any,
) -> Cleaned:  # fmt: skip
    """Clean files (manifest path -> bytes, or a table that is written as Parquet).

    Args:
        lists: Files of terms that blocklists name.
        disorder: A seed: the tasks of each round are done in a random order, and each of them twice.
    """
    store = LocalStore(root / "store", tenant="default")
    ref = write_manifest(store, "source", {path: _bytes(content) for path, content in files.items()}, meta={})
    terms = None if lists is None else write_manifest(store, "source", lists, meta={})
    with local_context(store, root, seed=seed) as context:
        inputs = {name: context.open_artifact(of) for name, of in (("raw", ref), ("terms", terms)) if of is not None}
        made, num_tasks = _run(context, CleanConfig.model_validate(config), inputs, disorder)
        dataset = context.open_artifact(made.artifacts["dataset"])
        meta = DatasetMeta.model_validate(dataset.meta)
        splits = {
            name: pa.concat_tables([pq.read_table(dataset.file(s.path)) for s in meta.of(name)])
            for name in ("train", "validation", "test")
            if meta.of(name)
        }
        profile = json.loads(dataset.read("profile.json"))
        paths = sorted(f.path for f in dataset.manifest.files if f.path.startswith("account/"))
        account = pa.concat_tables([ACCOUNT.empty_table(), *(pq.read_table(dataset.file(path)) for path in paths)])
        held = pq.read_table(context.open_artifact(made.artifacts["quarantine"]).file("quarantine.parquet"))
    summary = dict(made.summary)
    return Cleaned(made.artifacts["dataset"], meta, splits, profile, summary, num_tasks, account, held)


def _run(context: Context, config: CleanConfig, inputs: Inputs, disorder: int | None) -> tuple[StageOutputs, int]:
    tasks: Sequence[Task] = stage.plan(context, config, inputs)
    while True:
        results = _work(context, config, inputs, [json.loads(json.dumps(task)) for task in tasks], disorder)
        if isinstance(results[0], StageOutputs):
            return results[0], len(tasks)
        assert all(len(json.dumps(result)) <= 4096 for result in results)
        merged = stage.merge(context, config, inputs, [r for r in results if not isinstance(r, StageOutputs)])
        if not isinstance(merged, NextPlan):
            return merged, len(tasks)
        tasks = merged.tasks


def _work(
    context: Context, config: CleanConfig, inputs: Inputs, tasks: Sequence[Task], disorder: int | None
) -> list[Result | StageOutputs]:
    """The results of tasks, in the order of the tasks; with a seed, each is done twice, in a random order."""
    if disorder is None:
        return [stage.work(context, config, inputs, task) for task in tasks]
    order = [*range(len(tasks))] * 2
    random.Random(disorder).shuffle(order)
    found = {number: stage.work(context, config, inputs, tasks[number]) for number in order}
    return [found[number] for number in range(len(tasks))]


def _bytes(content: bytes | pa.Table) -> bytes:
    if isinstance(content, bytes):
        return content
    sink = io.BytesIO()
    pq.write_table(content, sink, row_group_size=50)
    return sink.getvalue()


def csv_of(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in [header, *rows]).encode() + b"\n"
