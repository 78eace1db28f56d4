"""Makes data sets of columns and splits, and audits them without a factory."""

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
from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema
from millrace.runtime.stage import local_context
from millrace.store import Store
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning.audit import stage
from millrace_cleaning.audit.report import LABEL_ERRORS, LEAKED_ROWS, AuditReport, Finding
from millrace_cleaning.audit.settings import AuditConfig


@dataclass(frozen=True)
class Audited:
    """What an audit said."""

    report: AuditReport
    outputs: StageOutputs
    label_errors: pa.Table
    leaked_rows: pa.Table

    def codes(self, *, at_least: str = "warning") -> set[str]:
        """Findings of that severity or more."""
        severities = ("info", "warning", "error")[("info", "warning", "error").index(at_least) :]
        return {f.code for f in self.report.findings if f.severity in severities}

    def of(self, code: str) -> Finding:
        return next(f for f in self.report.findings if f.code == code)

    def columns(self, code: str) -> list[str]:
        """Columns with this finding, the most severe first."""
        return [f.column for f in self.report.findings if f.code == code]


def audit(
    root: Path, columns: Sequence[Column], splits: Mapping[str, pa.Table], *, seed: int = 0, **config: Any
) -> Audited:
    """Audit a data set of these columns (roles and types) and rows."""
    store = LocalStore(root / "store", tenant="default")
    with local_context(store, root, seed=seed) as context:
        data = context.open_artifact(dataset(store, columns, splits))
        made = stage.work(context, AuditConfig.model_validate(config), {"dataset": data}, {})
        assert len(json.dumps(made.summary)) <= 4096
        artifact = context.open_artifact(made.artifacts["report"])
        tables = [pq.read_table(artifact.file(name)) for name in (LABEL_ERRORS, LEAKED_ROWS)]
        return Audited(AuditReport.model_validate_json(artifact.read("report.json")), made, *tables)


def dataset(store: Store, columns: Sequence[Column], splits: Mapping[str, pa.Table]) -> ArtifactRef:
    """Store a data set with a shard a split; `row_id` is made where rows have none."""
    schema = DatasetSchema(columns=tuple(columns))
    files: dict[str, Path | bytes] = {"schema.json": schema.to_json().encode()}
    shards, begin = [], 0
    for split, rows in splits.items():
        if "row_id" not in rows.column_names:
            rows = rows.add_column(0, "row_id", [[f"{'0' * 16}-{begin + i}" for i in range(rows.num_rows)]])
        begin += rows.num_rows
        path = f"data/{split}-00000.parquet"
        sink = io.BytesIO()
        pq.write_table(rows, sink)
        files[path] = sink.getvalue()
        shards.append({"path": path, "split": split, "num_rows": rows.num_rows})
    counts = {split: rows.num_rows for split, rows in splits.items()}
    meta = DatasetMeta.model_validate({"schema": schema, "shards": shards, "num_rows": counts})
    return write_manifest(store, "dataset", files, meta=meta.model_dump(mode="json", by_alias=True))


def divided(rows: pa.Table, *, train: float = 0.7, validation: float = 0.1) -> dict[str, pa.Table]:
    """Rows cut in their order; they keep where they stood as their `row_id`."""
    rows = rows.add_column(0, "row_id", [[f"{'0' * 16}-{i}" for i in range(rows.num_rows)]])
    ends = [round(rows.num_rows * share) for share in (train, train + validation, 1)]
    names = ("train", "validation", "test")
    return {name: rows.slice(a, b - a) for name, a, b in zip(names, [0, *ends], ends, strict=False)}
