"""From normalised parts to the data set: duplicates out, split, profile, schema, shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema, SplitName
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.keys import value_keys
from millrace_cleaning.parts import Pieces, Rows, read_keys, read_parts
from millrace_cleaning.profile import Profile
from millrace_cleaning.repair import Repairs
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.split import SPLITS, Codes, Ints, cut_documents, split_by_group, split_in_order, split_randomly
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
    rows, num_duplicates = _divide(parts, plan=plan, config=config, seed=seed, source=source, repairs=repairs)
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


def _divide(
    parts: Sequence[Path], *, plan: CleaningPlan, config: CleanConfig, seed: int, source: str, repairs: Repairs
) -> tuple[Rows, int]:
    """Find duplicates and give every other row its split; return the rows and the number of duplicates."""
    low, high = read_keys(parts)
    keep = first_of_each(low, high)[0] if _drops_duplicates(plan, config) else np.ones(len(low), dtype=np.bool_)
    if not keep.any():
        rules = ", ".join(f"{rule} ({count})" for rule, count in repairs.removed.items() if count) or "none was read"
        raise errors.InvalidData(f"No row is left: {rules}.", remedy="Check the null policies and the columns' types.")
    classes = _classes(parts, plan, keep)
    pieces: Pieces = {}
    text = ""
    fractions = config.split.fractions
    kept: Codes
    if config.split.by:
        groups = np.concatenate([value_keys(b.column(0)) for b in read_parts(parts, columns=[config.split.by])])
        kept = split_by_group(groups[keep], seed=seed, fractions=fractions)
    elif config.split.time:
        kept = split_in_order(_moments(parts, plan, config.split.time)[keep], fractions=fractions, units="moments")
    elif config.split.order == "contiguous":
        text = _cut_column(plan, config)
        if text:
            kept, pieces = _cut_between_characters(parts, text, keep, fractions)
        else:
            kept = split_in_order(np.arange(int(keep.sum())), fractions=fractions, units="rows")
    else:
        kept = split_randomly(low[keep], high[keep], classes=classes, seed=seed, fractions=fractions)
    codes = np.full(len(low), -1, dtype=np.int8)
    codes[keep] = kept
    return Rows(parts=parts, source=source, codes=codes, pieces=pieces, text=text), int((~keep).sum())


def _drops_duplicates(plan: CleaningPlan, config: CleanConfig) -> bool:
    if config.dedup is not None:
        return config.dedup
    return any(c.type not in ("category", "integer", "boolean", "timestamp") for c in plan.with_role("feature"))


def _classes(parts: Sequence[Path], plan: CleaningPlan, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> Ints | None:
    """Class codes of the rows that stay, if there is one category target; and the check that it has classes."""
    result = None
    targets = plan.with_role("target")
    for column in targets:
        if column.type != "category":
            continue
        chunks = [batch.column(0) for batch in read_parts(parts, columns=[column.name])]
        values = pa.chunked_array(chunks, pa.string()).combine_chunks()
        encoded = values.filter(pa.array(keep)).dictionary_encode()
        labels = [label for label in encoded.dictionary.to_pylist() if label is not None]
        if len(labels) < 2:
            raise _one_class(column.name, labels, num_before=pc.count_distinct(values).as_py())
        # By label, not by appearance, so that the order of rows does not move a cut.
        ranks = np.argsort(np.argsort(np.array(labels, dtype=object)))
        codes = encoded.indices.fill_null(len(labels)).to_numpy(zero_copy_only=False)
        result = np.append(ranks, len(labels))[codes].astype(np.int64)
    return result if len(targets) == 1 else None


def _one_class(name: str, labels: Sequence[str], *, num_before: int) -> errors.InvalidData:
    if num_before > 1:
        return errors.InvalidData(
            f"Of the {num_before} classes of {name!r} only {labels} is left after rows with equal features were removed.",
            remedy="Say `dedup: false` if they are separate observations.",
            field="with.dedup",
        )
    return errors.InvalidData(
        f"The target {name!r} has one class only: {', '.join(labels) or 'null'}.",
        remedy="Classification needs at least two; check that `target` names the right column.",
        field="with.target",
    )


def _moments(parts: Sequence[Path], plan: CleaningPlan, name: str) -> Ints:
    column = next(c for c in plan.columns if c.name == name)
    if column.type not in ("timestamp", "integer", "number"):
        raise errors.InvalidData(
            f"The split's time column {name!r} is of type {column.type}, which has no order in time.",
            remedy="Use ISO 8601 timestamps or numbers.",
            field="with.split.time",
        )
    arrays = [batch.column(0) for batch in read_parts(parts, columns=[name])]
    values = pa.chunked_array(arrays).combine_chunks()
    moments: Ints = (values.cast(pa.int64()) if column.type == "timestamp" else values).to_numpy(zero_copy_only=False)
    return moments


def _cut_column(plan: CleaningPlan, config: CleanConfig) -> str:
    features = plan.with_role("feature")
    return features[0].name if config.task == "language_modelling" and features[0].type == "text" else ""


def _cut_between_characters(
    parts: Sequence[Path], text: str, keep: np.ndarray[Any, np.dtype[np.bool_]], fractions: Mapping[SplitName, float]
) -> tuple[Codes, Pieces]:
    lengths = [pc.utf8_length(batch.column(0)).to_numpy() for batch in read_parts(parts, columns=[text])]
    pieces = cut_documents(np.concatenate(lengths).astype(np.int64)[keep], fractions=fractions)
    codes = np.array([row[0][2] for row in pieces], dtype=np.int8)
    return codes, {i: row for i, row in enumerate(pieces) if len(row) > 1}


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
