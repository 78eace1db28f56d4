"""Features that tell the target alone: often it was written after the target was known, or is the target by another name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from millrace.contracts.schema import Column
from millrace_cleaning.audit.matrix import NUMBERS, Floats, Ints, codes_of, numbers_of
from millrace_cleaning.audit.models import (
    Folds,
    category_means,
    category_probabilities,
    numbers_means,
    numbers_probabilities,
    skill_of_classes,
    skill_of_numbers,
)
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import Sample

ALONE = (*NUMBERS, "category")
"""Types of feature that are judged alone. A text or an image is what a model is meant to learn from."""
_PERFECT = 0.99
_BINS = 32


def giveaway_findings(
    sample: Sample, features: Sequence[Column], target: Column, values: Ints | Floats, folds: Folds, *,
    threshold: float, progress: Callable[[int, int], None],
) -> tuple[list[Finding], dict[str, float]]:  # fmt: skip
    """Judge each feature alone.

    Args:
        sample: Rows with a target.
        values: The target (N,): codes of classes, or numbers.
        threshold: The score from which on it is a finding.

    Returns:
        Findings, the most telling first, and every feature's score.
    """
    columns = [c for c in features if c.type in ALONE]
    if len(features) < 2:  # the only feature may tell everything: that is what it is for
        return [], {}
    scores = {}
    for done, column in enumerate(columns):
        scores[column.name] = _score(sample, column, values, folds)
        progress(done + 1, len(columns))
    telling = sorted((name for name in scores if scores[name] >= threshold), key=lambda name: -scores[name])
    by_name = {c.name: c for c in columns}
    return [_finding(sample, by_name[name], target, values, scores[name]) for name in telling], scores


def _score(sample: Sample, column: Column, values: Ints | Floats, folds: Folds) -> float:
    """Out of fold, 0 to 1: of classes how much better than the commonest, of numbers R squared."""
    array = sample.column(column.name)
    if values.dtype.kind == "i":
        classes, num = values.astype(np.int64), int(values.max()) + 1
        if column.type == "category":
            return skill_of_classes(category_probabilities(codes_of(array), classes, folds, num_classes=num), classes)
        return skill_of_classes(numbers_probabilities(numbers_of(array), classes, folds, num_classes=num), classes)
    targets = values.astype(np.float64)
    if column.type == "category":
        return skill_of_numbers(category_means(codes_of(array), targets, folds), targets)
    return skill_of_numbers(numbers_means(numbers_of(array), targets, folds), targets)


def _finding(sample: Sample, column: Column, target: Column, values: Ints | Floats, score: float) -> Finding:
    array = sample.column(column.name)
    codes = codes_of(array) if column.type == "category" else binned(numbers_of(array))
    classes = values.astype(np.int64) if values.dtype.kind == "i" else binned(values.astype(np.float64))
    return Finding(
        code="giveaway", severity="error" if score >= _PERFECT else "warning", column=column.name,
        message=f"{column.name!r} alone tells {score:.1%} of {target.name!r}.",
        evidence={"score": round(score, 4), "mutual_information_share": round(information(codes, classes), 4),
                  "missing_share": round(array.null_count / max(len(array), 1), 4)},
        remedy="Ask whether it is known before the target is. If not, ignore it: in service it will not be there.",
    )  # fmt: skip


def binned(values: Floats) -> Ints:
    """Numbers (N,) as codes of equally filled bins; a missing one is a bin of its own."""
    present = np.isfinite(values)
    edges = (
        np.unique(np.quantile(values[present], np.linspace(0, 1, _BINS + 1)[1:-1])) if present.any() else np.empty(0)
    )
    return np.where(present, np.searchsorted(edges, values, side="right") + 1, 0).astype(np.int64)


def information(codes: Ints, classes: Ints) -> float:
    """Mutual information of two codes as a share of the second's entropy, 0 to 1, counted in these very rows."""
    joint = np.zeros((int(codes.max()) + 1, int(classes.max()) + 1))
    np.add.at(joint, (codes, classes), 1.0)
    joint /= joint.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropy = -float(np.sum(columns[columns > 0] * np.log(columns[columns > 0])))
    present = joint > 0
    mutual = float(np.sum(joint[present] * np.log(joint[present] / np.outer(rows, columns)[present])))
    return min(max(mutual / entropy, 0.0), 1.0) if entropy > 0 else 0.0
