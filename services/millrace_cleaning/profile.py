"""What the rows that stay look like: numbers and vocabularies from the training split alone, counts from all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.split import SPLITS, Codes

MAX_VOCABULARY = 100_000
_TOP = 20


@dataclass(slots=True)
class ColumnProfile:
    """Sums over one column; numbers are of the training split."""

    nulls: Counter[str] = field(default_factory=Counter)
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    kept_values: list[npt.NDArray[np.float64]] = field(default_factory=list)  # only where a median is wanted

    def add_numbers(self, numbers: npt.NDArray[np.float64]) -> None:
        if numbers.size:
            self.count += numbers.size
            self.total += float(numbers.sum())
            self.squares += float(np.square(numbers).sum())
            self.minimum = min(self.minimum, float(numbers.min()))
            self.maximum = max(self.maximum, float(numbers.max()))

    def numbers(self) -> dict[str, float]:
        if not self.count:
            return {"count": 0}
        mean = self.total / self.count
        deviation = math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        return {"count": self.count, "mean": mean, "std": deviation, "min": self.minimum, "max": self.maximum}


class Profile:
    """Gathers the profile in one pass over the rows."""

    def __init__(self, plan: CleaningPlan) -> None:
        self.plan = plan
        self.num_rows: Counter[str] = Counter()
        self.columns = {c.name: ColumnProfile() for c in plan.columns}

    def add(self, batch: pa.RecordBatch, codes: Codes) -> None:
        for code, split in enumerate(SPLITS):
            rows = batch.filter(pa.array(codes == code))
            self.num_rows[split] += rows.num_rows
            if rows.num_rows:
                for column in self.plan.columns:
                    self._add(column, rows.column(column.name), split)

    def _add(self, column: PlannedColumn, array: pa.Array, split: str) -> None:
        profile = self.columns[column.name]
        if array.null_count:
            profile.nulls[split] += array.null_count
            array = array.drop_null()
        if column.type in ("category", "boolean"):
            counts = pc.value_counts(array.cast(pa.string()))
            for value, count in zip(
                counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True
            ):
                profile.counts[split][value] += count
            self._check_vocabulary(column, profile)
        elif split == "train":
            numbers = _numbers(column, array)
            profile.add_numbers(numbers)
            if column.on_null == "impute":
                profile.kept_values.append(numbers)

    def _check_vocabulary(self, column: PlannedColumn, profile: ColumnProfile) -> None:
        if len(profile.counts["train"]) > MAX_VOCABULARY:
            raise errors.InvalidData(
                f"Column {column.name!r} has more than {MAX_VOCABULARY:,} distinct values, too many for a category.",
                remedy="Give it the type text, or the role ignore.",
                field=f"with.columns.{column.name}.type",
            )

    def vocabulary(self, column: PlannedColumn) -> tuple[str, ...]:
        """A category's labels in order: as given; else a target's from all rows, and a feature's from training only."""
        if column.vocabulary is not None:
            return column.vocabulary
        counts = self.columns[column.name].counts
        splits = SPLITS if column.role == "target" else ("train",)
        return tuple(_sorted_labels({label for split in splits for label in counts[split]}))

    def imputed(self) -> dict[str, float | int | str | bool]:
        """What stands in for nulls of the columns that ask for it: the training split's median or commonest value."""
        found: dict[str, float | int | str | bool] = {}
        for column in self.plan.columns:
            if column.on_null != "impute" or not self.columns[column.name].nulls:
                continue
            value = self._typical(column)
            if value is None:
                raise errors.InvalidData(
                    f"Column {column.name!r} ({column.type}) has nothing to impute from in the training split.",
                    remedy="Impute numbers, integers, booleans and categories; else use `on_null: keep` or `drop`.",
                    field=f"with.columns.{column.name}.on_null",
                )
            found[column.name] = value
        return found

    def _typical(self, column: PlannedColumn) -> float | int | str | bool | None:
        profile = self.columns[column.name]
        if column.type in ("number", "integer"):
            numbers = np.concatenate([np.empty(0), *profile.kept_values])
            if not numbers.size:
                return None
            median = float(np.median(numbers))
            return round(median) if column.type == "integer" else median
        counts = profile.counts["train"]
        if column.type not in ("category", "boolean") or not counts:
            return None
        value = min(counts, key=lambda label: (-counts[label], label))
        return value == "true" if column.type == "boolean" else value

    def to_json(self) -> dict[str, dict[str, Any]]:
        return {column.name: self._describe(column) for column in self.plan.columns}

    def _describe(self, column: PlannedColumn) -> dict[str, Any]:
        profile = self.columns[column.name]
        about: dict[str, Any] = {"type": column.type, "role": column.role, "nulls": dict(profile.nulls)}
        if column.type in ("category", "boolean"):
            totals: Counter[str] = sum(profile.counts.values(), Counter())
            labels = sorted(totals, key=lambda label: (-totals[label], label))
            shown = labels if column.role == "target" else labels[:_TOP]
            about["distinct"] = len(totals)
            about["counts"] = {label: {s: profile.counts[s][label] for s in SPLITS} for label in shown}
        else:
            about[_MEASURE.get(column.type, "train")] = profile.numbers()
        return about


_MEASURE: Mapping[str, str] = {"text": "train_characters", "json": "train_characters", "tokens": "train_tokens"}


def _numbers(column: PlannedColumn, array: pa.Array) -> npt.NDArray[np.float64]:
    """The numbers that describe a column: its values, or the lengths of its texts, token lists and files."""
    if column.shape is not None:
        array = array.flatten()
    elif column.type in ("text", "json"):
        array = pc.utf8_length(array)
    elif column.type == "tokens":
        array = pc.list_value_length(array)
    elif column.type in ("image", "audio"):
        array = pc.binary_length(pc.struct_field(array, "bytes"))
    elif column.type == "timestamp":
        array = pc.divide(array.cast(pa.int64()).cast(pa.float64()), 1e6)  # seconds since 1970
    numbers: npt.NDArray[np.float64] = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _sorted_labels(labels: Iterable[str]) -> list[str]:
    """By number where all are whole numbers, so that 10 comes after 9; else by text."""
    labels = list(labels)
    if all(label.lstrip("-").isascii() and label.lstrip("-").isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
