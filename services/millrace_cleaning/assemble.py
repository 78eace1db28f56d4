"""From normalised parts to the data set: duplicates out, split, profile, schema, shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema, SplitName
from millrace_cleaning.divide import divide
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.parts import Rows
from millrace_cleaning.profile import Profile
from millrace_cleaning.repair import Repairs
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.split import SPLITS
from millrace_cleaning.write import ShardWriter

_MANY_DUPLICATES = 0.2
_FEW_ROWS_OF_CLASS = 5


@dataclass(frozen=True, slots=True)
class Assembled:
    """The data set's files under a directory, and what to say about it."""

    files: dict[str, Path]
    meta: DatasetMeta
    summary: dict[str, Any]


def assemble(
    parts: Sequence[Path],
    *,
    plan: CleaningPlan,
    config: CleanConfig,
    repairs: Repairs,
    rows_in: int,
    source: str,
    seed: int,
    root: Path,
    progress: Callable[[int, int], None],
) -> Assembled:
    """Write the data set under root.

    Args:
        source: First 16 hex digits of the source's digest.
        progress: Called with rows written and rows to write.

    Raises:
        InvalidData: No row is left, a target has one class, or the rows do not fill the splits.
    """
    rows, num_duplicates = divide(parts, plan=plan, config=config, seed=seed, source=source, repairs=repairs)
    profile = Profile(plan)
    for batch, codes in rows:
        profile.add(batch, codes)
    imputed = profile.imputed()
    schema = _schema(plan, profile, task=config.task)
    removed = {rule: count for rule, count in sorted(repairs.removed.items()) if count}
    removed |= {"duplicate": num_duplicates} if num_duplicates else {}
    warnings = [*plan.warnings, *_warnings(plan, profile, repairs, removed, rows_in)]

    meta, files = _write(rows, profile, schema=schema, config=config, imputed=imputed, root=root, progress=progress)
    report = {
        "format": "millrace.profile/v1", "rows_in": rows_in, "rows_out": sum(meta.num_rows.values()), "removed": removed,
        "splits": meta.num_rows, "unparseable": dict(sorted(repairs.unparseable.items())), "imputed": imputed,
        "columns": profile.to_json(), "warnings": warnings,
    }  # fmt: skip
    files["schema.json"] = _write_json(root / "schema.json", schema.model_dump(mode="json", by_alias=True))
    files["profile.json"] = _write_json(root / "profile.json", report)
    summary = {
        "rows_in": rows_in, "rows_out": report["rows_out"], "splits": dict(meta.num_rows), "columns": len(schema.columns),
        "removed": dict(list(removed.items())[:12]), "warnings": [w[:160] for w in warnings[:8]],
    }  # fmt: skip
    return Assembled(files=files, meta=meta, summary=summary)


def _schema(plan: CleaningPlan, profile: Profile, *, task: str) -> DatasetSchema:
    return DatasetSchema(columns=tuple(_column(c, profile) for c in plan.columns), task=task)


def _column(column: PlannedColumn, profile: Profile) -> Column:
    stats = profile.columns[column.name]
    has_range = stats.count > 0 and (column.type in ("number", "integer", "timestamp") or column.shape is not None)
    return Column(
        name=column.name,
        type=column.type,
        role=column.role,
        nullable=bool(stats.nulls) and column.on_null != "impute",
        vocabulary=profile.vocabulary(column) if column.type == "category" else None,
        shape=column.shape,
        unit=column.unit,
        minimum=stats.minimum if has_range else None,
        maximum=stats.maximum if has_range else None,
    )


def _write(
    rows: Rows,
    profile: Profile,
    *,
    schema: DatasetSchema,
    config: CleanConfig,
    imputed: Mapping[str, Any],
    root: Path,
    progress: Callable[[int, int], None],
) -> tuple[DatasetMeta, dict[str, Path]]:
    (root / "data").mkdir(parents=True)
    writers = [ShardWriter(root, split=s, schema=schema, rows_per_shard=config.rows_per_shard) for s in SPLITS]
    total, done = sum(profile.num_rows.values()), 0
    for batch, codes in rows:
        for name, value in imputed.items():
            index = batch.schema.get_field_index(name)
            batch = batch.set_column(index, name, pc.fill_null(batch.column(index), value))
        for code, writer in enumerate(writers):
            writer.add(batch.filter(pa.array(codes == code)))
        done += batch.num_rows
        progress(done, total)
    for writer in writers:
        writer.close()
    shards = tuple(shard for writer in writers for shard in writer.shards)
    counts: dict[SplitName, int] = {s: profile.num_rows[s] for s in SPLITS}
    meta = DatasetMeta.model_validate({"schema": schema, "shards": shards, "num_rows": counts})
    return meta, {shard.path: root / shard.path for shard in shards}


def _warnings(
    plan: CleaningPlan, profile: Profile, repairs: Repairs, removed: Mapping[str, int], rows_in: int
) -> list[str]:
    found = [f"{count} of {rows_in} rows went: {rule}." for rule, count in removed.items() if rule != "duplicate"]
    found += [
        f"{count} values of {name!r} were unparseable and are null." for name, count in repairs.unparseable.items()
    ]
    if removed.get("duplicate", 0) > _MANY_DUPLICATES * rows_in:
        found.append(
            f"{removed['duplicate']} of {rows_in} rows repeat the features of another; if these are separate "
            "observations, say `dedup: false`."
        )
    for column in plan.with_role("target"):
        if column.type == "category":
            found += _class_warnings(column.name, profile.columns[column.name].counts)
    return found


def _class_warnings(name: str, counts: Mapping[str, Counter[str]]) -> list[str]:
    totals: Counter[str] = sum(counts.values(), Counter())
    rare = sorted(label for label, count in totals.items() if count < _FEW_ROWS_OF_CLASS)
    unseen = sorted(label for label in totals if not counts["train"][label])
    found = []
    if rare:
        found.append(f"{len(rare)} classes of {name!r} have fewer than {_FEW_ROWS_OF_CLASS} rows, such as {rare[0]!r}.")
    if unseen:
        found.append(f"{len(unseen)} classes of {name!r} are not in the training split, such as {unseen[0]!r}.")
    return found


def _write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path
