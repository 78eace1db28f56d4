"""Whether test rows can be told from training rows: by each column alone, and by all of them together.

A model that was asked which split a row is from, and can say, has found what differs (adversarial validation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from millrace.contracts.schema import Column
from millrace_cleaning.audit.matrix import NUMBERS, Floats, Ints, codes_of, linear_matrix, numbers_of, tree_matrix
from millrace_cleaning.audit.models import (
    Folds,
    auc,
    boosted_probabilities,
    category_probabilities,
    folds_of,
    linear_probabilities,
    numbers_probabilities,
)
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import Sample

_K = 3
_ERRORS = 4.0
"""Standard errors above one half: what a hundred columns without a shift do not reach by chance."""
_STRONG = 0.75
_FEW = 50


def shift_findings(
    sample: Sample, features: Sequence[Column], *, threshold: float, seed: int, progress: Callable[[int, int], None]
) -> tuple[list[Finding], dict[str, float]]:
    """Compare the features of train and test.

    Returns:
        Findings, and the area under the curve of each column, that of all together under the empty name.
    """
    is_test = sample.codes[sample.codes != 1] == 2
    if min(int(is_test.sum()), int((~is_test).sum())) < _FEW:
        return [], {}
    rows = np.flatnonzero(sample.codes != 1)
    classes = is_test.astype(np.int64)
    folds = folds_of(classes, num_rows=len(rows), k=_K, seed=seed)
    areas: dict[str, float] = {}
    findings = []
    for done, column in enumerate(features):
        area, error = auc(_alone(sample, column, rows, classes, folds), is_test)
        areas[column.name] = area
        progress(done + 1, len(features) + 1)
        if area >= threshold and area > 0.5 + _ERRORS * error:
            findings.append(_of_column(column, area))
    area, error = auc(_together(sample, features, rows, classes, folds, seed=seed), is_test)
    areas[""] = area
    findings.sort(key=lambda f: -float(f.evidence["auc"]))
    if area >= threshold and area > 0.5 + _ERRORS * error:
        findings.insert(0, _of_rows(area, [f.column for f in findings]))
    return findings, areas


def _alone(sample: Sample, column: Column, rows: Ints, classes: Ints, folds: Folds) -> Floats:
    """How much each row looks like a test row (N,), by one column."""
    array = sample.column(column.name)
    if column.type in NUMBERS:
        return numbers_probabilities(numbers_of(array)[rows], classes, folds, num_classes=2)[:, 1]
    if column.type == "category":
        return category_probabilities(codes_of(array)[rows], classes, folds, num_classes=2)[:, 1]
    return linear_probabilities(linear_matrix(sample, [column])[rows], classes, folds, num_classes=2)[:, 1]


def _together(
    sample: Sample, features: Sequence[Column], rows: Ints, classes: Ints, folds: Folds, *, seed: int
) -> Floats:
    if all(c.type in (*NUMBERS, "category") for c in features):
        matrix, is_category = tree_matrix(sample, features)
        return boosted_probabilities(matrix[rows], is_category, classes, folds, num_classes=2, seed=seed)[:, 1]
    return linear_probabilities(linear_matrix(sample, features)[rows], classes, folds, num_classes=2)[:, 1]


def _of_column(column: Column, area: float) -> Finding:
    return Finding(
        code="column_shift", severity="warning", column=column.name,
        message=f"{column.name!r} is not distributed in test as in train: it tells them apart with an AUC of {area:.2f}.",
        evidence={"auc": round(area, 4)},
        remedy="If it is a date or a counter, give it the role time or id. If the world changed, give newer data to train.",
    )  # fmt: skip


def _of_rows(area: float, columns: Sequence[str]) -> Finding:
    return Finding(
        code="row_shift", severity="error" if area >= _STRONG else "warning",
        message=f"Rows of test are told from rows of train with an AUC of {area:.2f}.",
        evidence={"auc": round(area, 4), "columns": list(columns[:8])},
        remedy="Split at random where rows are exchangeable; if time lies between them, expect the score to fall in service.",
    )  # fmt: skip
