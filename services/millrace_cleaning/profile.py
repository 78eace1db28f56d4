"""What the rows that stay look like, split by split; what is learned of them is learned from the training split alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import SplitName
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.split import SPLITS

MAX_VOCABULARY = 100_000
_TOP = 20


@dataclass(slots=True)
class Numbers:
    """Sums over numbers of one column in one split."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        if numbers.size:
            own = Numbers(
                numbers.size, float(numbers.sum()), float(np.square(numbers).sum()), float(numbers.min()),
                float(numbers.max()),
            )  # fmt: skip
            self.merge(own)

    def merge(self, other: Numbers) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def describe(self) -> dict[str, float]:
        if not self.count:
            return {"count": 0}
        mean = self.total / self.count
        deviation = math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        return {"count": self.count, "mean": mean, "std": deviation, "min": self.minimum, "max": self.maximum}


@dataclass(slots=True)
class ColumnProfile:
    """Sums over one column, by split; `kept` holds the training split's numbers where a median is wanted."""

    nulls: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, Numbers] = field(default_factory=lambda: {split: Numbers() for split in SPLITS})
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    kept: list[float] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        numbers = {split: asdict(found) for split, found in self.numbers.items()}
        return {"nulls": self.nulls, "numbers": numbers, "counts": self.counts, "kept": self.kept}

    def merge(self, other: ColumnProfile) -> None:
        self.nulls.update(other.nulls)
        for split in SPLITS:
            self.numbers[split].merge(other.numbers[split])
            self.counts[split].update(other.counts[split])
        self.kept += other.kept


class Profile:
    """Gathers the profile of rows in one pass; profiles of several shards merge, in the order of the shards."""

    def __init__(self, plan: CleaningPlan) -> None:
        self.plan = plan
        self.num_rows: Counter[str] = Counter()
        self.columns = {c.name: ColumnProfile() for c in plan.columns}

    def add(self, measures: pa.RecordBatch, split: SplitName) -> None:
        """Add rows of one split, as `measure` made them."""
        self.num_rows[split] += measures.num_rows
        for column in self.plan.columns:
            self._add(column, measures.column(column.name), split)

    def _add(self, column: PlannedColumn, array: pa.Array, split: SplitName) -> None:
        profile = self.columns[column.name]
        if array.null_count:
            profile.nulls[split] += array.null_count
            array = array.drop_null()
        if column.type in _COUNTED:
            counts = pc.value_counts(array.cast(pa.string()))
            for value, count in zip(
                counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True
            ):
                profile.counts[split][value] += count
            return
        if column.shape is not None:
            array = array.flatten()
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        profile.numbers[split].add(numbers)
        if column.on_null == "impute" and split == "train":
            profile.kept += numbers.tolist()

    def merge(self, other: Profile) -> None:
        """Add the profile of the next shard.

        Raises:
            InvalidData: A category has too many labels.
        """
        self.num_rows.update(other.num_rows)
        for column in self.plan.columns:
            self.columns[column.name].merge(other.columns[column.name])
            if len(self.columns[column.name].counts["train"]) > MAX_VOCABULARY:
                raise errors.InvalidData(
                    f"Column {column.name!r} has more than {MAX_VOCABULARY:,} distinct values, too many for a category.",
                    remedy="Give it the type text, or the role ignore.",
                    field=f"with.columns.{column.name}.type",
                )

    def dump(self) -> dict[str, Any]:
        """Everything, JSON-compatible but for infinities."""
        return {"num_rows": self.num_rows, "columns": {name: c.dump() for name, c in self.columns.items()}}

    @classmethod
    def load(cls, plan: CleaningPlan, value: Mapping[str, Any]) -> Profile:
        """What `dump` gave."""
        profile = cls(plan)
        profile.num_rows.update(value["num_rows"])
        for name, column in value["columns"].items():
            profile.columns[name] = ColumnProfile(
                nulls=Counter(column["nulls"]),
                numbers={split: Numbers(**numbers) for split, numbers in column["numbers"].items()},
                counts={split: Counter(counts) for split, counts in column["counts"].items()},
                kept=column["kept"],
            )
        return profile

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
            if not profile.kept:
                return None
            median = float(np.median(profile.kept))
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
        if column.inferred is not None:
            about["inferred"] = column.inferred.model_dump(mode="json")
        if column.type in _COUNTED:
            totals: Counter[str] = sum(profile.counts.values(), Counter())
            labels = sorted(totals, key=lambda label: (-totals[label], label))
            shown = labels if column.role == "target" else labels[:_TOP]
            about["distinct"] = len(totals)
            about["counts"] = {label: {s: profile.counts[s][label] for s in SPLITS} for label in shown}
        else:
            for split in SPLITS:
                about[split + _MEASURE.get(column.type, "")] = profile.numbers[split].describe()
        return about


_MEASURE: Mapping[str, str] = {"text": "_characters", "json": "_characters", "tokens": "_tokens"}
_COUNTED = ("category", "boolean")


def measure(column: PlannedColumn, array: pa.Array) -> pa.Array:
    """What describes a column: its values, or the lengths of its texts, token lists and files; one for each row."""
    if column.shape is not None or column.type in ("category", "boolean", "number", "integer"):
        return array
    if column.type == "timestamp":
        return pc.divide(array.cast(pa.int64()).cast(pa.float64()), 1e6)  # seconds since 1970
    if column.type in ("image", "audio"):
        return pc.binary_length(pc.struct_field(array, "bytes"))
    return pc.utf8_length(array) if column.type in ("text", "json") else pc.list_value_length(array)


def _sorted_labels(labels: Iterable[str]) -> list[str]:
    """By number where all are whole numbers, so that 10 comes after 9; else by text."""
    labels = list(labels)
    if all(label.lstrip("-").isascii() and label.lstrip("-").isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
