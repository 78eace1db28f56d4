"""Which rows are duplicates, and which split each of the others falls in: decided from keys and a few columns alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import SplitName
from millrace.datasets.keys import value_keys
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.parts import Pieces, Rows, read_keys, read_parts
from millrace_cleaning.repair import Repairs
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.split import Codes, Ints, cut_documents, split_by_group, split_in_order, split_randomly

Flags = npt.NDArray[np.bool_]


def divide(
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


def _classes(parts: Sequence[Path], plan: CleaningPlan, keep: Flags) -> Ints | None:
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
    parts: Sequence[Path], text: str, keep: Flags, fractions: Mapping[SplitName, float]
) -> tuple[Codes, Pieces]:
    lengths = [pc.utf8_length(batch.column(0)).to_numpy() for batch in read_parts(parts, columns=[text])]
    pieces = cut_documents(np.concatenate(lengths).astype(np.int64)[keep], fractions=fractions)
    codes = np.array([row[0][2] for row in pieces], dtype=np.int8)
    return codes, {i: row for i, row in enumerate(pieces) if len(row) > 1}
