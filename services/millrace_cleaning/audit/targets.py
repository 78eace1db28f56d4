"""The target itself: its classes, their shares by split, its range. Counted over all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import chi2_contingency

from millrace.contracts.schema import Column
from millrace_cleaning.audit.matrix import Floats, Ints
from millrace_cleaning.audit.models import (
    Folds,
    numbers_means,
    numbers_probabilities,
    skill_of_classes,
    skill_of_numbers,
)
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import SPLITS

FEW_ROWS = 10
"""A class of fewer rows is learned from fewer still, and its test score is an accident."""
_IMBALANCE = 100
_SHIFT = 0.1
_IMPROBABLE = 1e-3
_ORDERED = 0.5
_SHOWN = 8


class TargetCounts:
    """What the target has in each split, in one pass over all rows."""

    def __init__(self, target: Column) -> None:
        self.target = target
        self.counts: tuple[Counter[str], ...] = tuple(Counter() for _ in SPLITS)
        self.ranges = [(np.inf, -np.inf) for _ in SPLITS]

    def add(self, array: pa.Array, code: int) -> None:
        if self.target.type == "category":
            found = pc.value_counts(array.cast(pa.string()).drop_null())
            pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
            self.counts[code].update(dict(pairs))
        elif self.target.type in ("number", "integer"):
            bounds = pc.min_max(array)
            if bounds["min"].is_valid:
                low, high = self.ranges[code]
                self.ranges[code] = (min(low, bounds["min"].as_py()), max(high, bounds["max"].as_py()))

    def findings(self) -> Iterator[Finding]:
        if self.target.type == "category":
            yield from self._of_classes()
        elif self.target.type in ("number", "integer"):
            yield from self._of_numbers()

    def _of_classes(self) -> Iterator[Finding]:
        name, total = self.target.name, sum(self.counts, Counter())
        if len(total) < 2:
            yield Finding(
                code="one_class", severity="error", column=name, message=f"All rows have the same {name!r}.",
                evidence={"classes": len(total), "rows": total.total()}, remedy="Give data with rows of several classes.",
            )  # fmt: skip
            return
        train = self.counts[0]
        unseen = sorted(label for label in total if not train[label])
        if train and unseen:
            rows = sum(total[label] for label in unseen)
            yield Finding(
                code="unseen_class", severity="error", column=name,
                message=f"{len(unseen)} classes of {name!r} stand in validation or test, and never in train.",
                evidence={"classes": len(unseen), "rows": rows, "such_as": unseen[:_SHOWN]},
                remedy="Give more rows of them, merge them with others, or drop them; no model can learn them.",
            )  # fmt: skip
        tiny = sorted((label for label in total if total[label] < FEW_ROWS), key=lambda label: (total[label], label))
        if tiny:
            yield Finding(
                code="tiny_class", severity="warning", column=name,
                message=f"{len(tiny)} classes of {name!r} have fewer than {FEW_ROWS} rows.",
                evidence={"classes": len(tiny), "rows": {label: total[label] for label in tiny[:_SHOWN]}},
                remedy="Give more rows of them, or merge them: what is measured of so few is chance.",
            )  # fmt: skip
        yield from self._imbalance(name, total)
        yield from self._shift(name, total)

    def _imbalance(self, name: str, total: Counter[str]) -> Iterator[Finding]:
        (most, num_most), (least, num_least) = total.most_common()[0], total.most_common()[-1]
        ratio = num_most / num_least
        if ratio >= _IMBALANCE:
            yield Finding(
                code="class_imbalance", severity="warning", column=name,
                message=f"{name!r} is {ratio:,.0f} times as often {most!r} as {least!r}.",
                evidence={"ratio": round(ratio, 2), "most": {most: num_most}, "least": {least: num_least}},
                remedy="Judge by macro_f1 rather than accuracy, and look at each class of the report.",
            )  # fmt: skip

    def _shift(self, name: str, total: Counter[str]) -> Iterator[Finding]:
        train, test = self.counts[0], self.counts[2]
        labels = sorted(label for label in total if train[label] or test[label])
        if not train or not test or len(labels) < 2:
            return
        table = np.array([[counts[label] for label in labels] for counts in (train, test)], dtype=np.float64)
        shares = table / table.sum(axis=1, keepdims=True)
        distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
        p_value = float(chi2_contingency(table).pvalue)
        if distance > _SHIFT and p_value < _IMPROBABLE:
            furthest = labels[int(np.abs(shares[0] - shares[1]).argmax())]
            at = labels.index(furthest)
            yield Finding(
                code="class_shift", severity="warning", column=name,
                message=f"{distance:.0%} of the rows would have to change class for test to have train's shares of {name!r}.",
                evidence={
                    "total_variation": round(distance, 4), "p_value": p_value, "class": furthest,
                    "train_share": round(float(shares[0, at]), 4), "test_share": round(float(shares[1, at]), 4),
                },
                remedy="Split at random, which is stratified by class; or, if time did this, expect worse in service.",
            )  # fmt: skip

    def _of_numbers(self) -> Iterator[Finding]:
        name = self.target.name
        low, high = min(r[0] for r in self.ranges), max(r[1] for r in self.ranges)
        if low == high:
            yield Finding(
                code="constant_target", severity="error", column=name, message=f"All rows have the same {name!r}.",
                evidence={"distinct": 1}, remedy="Give data in which the target varies.",
            )  # fmt: skip
            return
        train, test = self.ranges[0], self.ranges[2]
        if train[0] <= train[1] and test[0] <= test[1] and (test[0] < train[0] or test[1] > train[1]):
            beyond = max(train[0] - test[0], test[1] - train[1]) / max(train[1] - train[0], 1e-300)
            if beyond > _SHIFT:
                yield Finding(
                    code="target_range", severity="warning", column=name,
                    message=f"{name!r} in test goes beyond train's range by {beyond:.0%} of it.",
                    evidence={"train": list(train), "test": list(test), "beyond": round(beyond, 4)},
                    remedy="Look for outliers or another unit; trees never answer beyond what they have seen.",
                )  # fmt: skip


def order_findings(target: str, values: Ints | Floats, ordinals: Ints, folds: Folds) -> Iterator[Finding]:
    """Whether the source is sorted by the target: then a split by order puts classes on one side.

    Args:
        values: The target (N,): codes of classes, or numbers.
        ordinals: Where each row stood in the source.
    """
    places = ordinals.astype(np.float64)
    if values.dtype.kind == "i":
        classes = values.astype(np.int64)
        judged = numbers_probabilities(places, classes, folds, num_classes=int(classes.max()) + 1)
        skill = skill_of_classes(judged, classes)
    else:
        targets = values.astype(np.float64)
        skill = skill_of_numbers(numbers_means(places, targets, folds), targets)
    if skill >= _ORDERED:
        yield Finding(
            code="target_follows_order", severity="info", column=target,
            message=f"Where a row stood in the source tells {skill:.0%} of {target!r}: the source is sorted by it.",
            evidence={"score": round(skill, 4)},
            remedy="Harmless with a random split. Never use `order: contiguous`, nor a column that counts rows.",
        )  # fmt: skip
