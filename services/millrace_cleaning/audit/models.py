"""Simple, fast models that judge rows which they have not seen. N is rows, K is classes, d is numbers a row."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from millrace_cleaning.audit.matrix import Floats, Ints

Folds = list[tuple[Ints, Ints]]
"""Positions to learn from and positions to judge; each row is judged once."""

_MAX_COEFFICIENTS = 1_000_000
_LEAVES = 64


def folds_of(classes: Ints | None, *, num_rows: int, k: int, seed: int, groups: Ints | None = None) -> Folds:
    """Cut rows into k parts by seed, with equal shares of each class; rows of one group stay together.

    Args:
        classes: Codes (N,), each of at least k rows; None for a target of numbers.
        groups: Codes (N,) of what must not be learned from and judged at once; None if rows stand alone.
    """
    rows = np.zeros(num_rows)
    with warnings.catch_warnings():  # few large groups cannot have equal shares, which is no fault of the user's
        warnings.simplefilter("ignore", UserWarning)
        if classes is None:
            return list(KFold(k, shuffle=True, random_state=seed).split(rows))
        if groups is not None:
            return list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(rows, classes, groups))
        return list(StratifiedKFold(k, shuffle=True, random_state=seed).split(rows, classes))


def linear_probabilities(matrix: Any, classes: Ints, folds: Folds, *, num_classes: int) -> Floats:
    """Out-of-fold probabilities (N, K) by logistic regression."""
    most = max(_MAX_COEFFICIENTS // max(num_classes, 1), 1)
    if matrix.shape[1] > most:  # its solver keeps twenty vectors of all coefficients
        weight = np.asarray(abs(matrix).sum(axis=0)).ravel()
        matrix = matrix[:, np.sort(np.argsort(-weight, kind="stable")[:most])]
    return _judged(matrix, classes, folds, num_classes, lambda: LogisticRegression(C=_strength(matrix), max_iter=200))


def boosted_probabilities(
    matrix: Floats, is_category: npt.NDArray[np.bool_], classes: Ints, folds: Folds, *, num_classes: int, seed: int
) -> Floats:
    """Out-of-fold probabilities (N, K) by gradient-boosted trees."""
    return _judged(
        matrix, classes, folds, num_classes,
        lambda: HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=15, learning_rate=0.15, l2_regularization=1.0, early_stopping=False,
            categorical_features=is_category if is_category.any() else None, random_state=seed,
        ),
    )  # fmt: skip


def _strength(matrix: Any) -> float:
    """Rows of TF-IDF have length one and need weaker regularisation than standardised numbers, of which there may be many."""
    return 10.0 if not isinstance(matrix, np.ndarray) else min(1.0, 10.0 / max(matrix.shape[1], 1))


def _judged(matrix: Any, classes: Ints, folds: Folds, num_classes: int, make: Any) -> Floats:
    out = np.zeros((len(classes), num_classes))
    for learn, judge in folds:
        present = np.unique(classes[learn])
        if len(present) == 1:
            out[judge, present[0]] = 1.0
            continue
        model = make()
        with warnings.catch_warnings():  # close enough: two hundred steps of a convex problem
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix[learn], classes[learn])
        out[np.ix_(judge, model.classes_)] = model.predict_proba(matrix[judge])
    return out


def numbers_probabilities(values: Floats, classes: Ints, folds: Folds, *, num_classes: int) -> Floats:
    """Out-of-fold probabilities (N, K) from one column of numbers (N,) alone, by a small tree; NaN is a value too."""
    return _judged(
        values[:, None], classes, folds, num_classes,
        lambda: DecisionTreeClassifier(max_leaf_nodes=max(_LEAVES, 2 * num_classes), min_samples_leaf=5, random_state=0),
    )  # fmt: skip


def category_probabilities(codes: Ints, classes: Ints, folds: Folds, *, num_classes: int) -> Floats:
    """Out-of-fold probabilities (N, K) from one category (N,) alone: its rows' classes, and one row of the average."""
    out = np.empty((len(classes), num_classes))
    for learn, judge in folds:
        counts = np.zeros((int(codes.max(initial=0)) + 1, num_classes))
        np.add.at(counts, (codes[learn], classes[learn]), 1.0)
        counts += counts.sum(axis=0) / len(learn)
        out[judge] = counts[codes[judge]] / counts[codes[judge]].sum(axis=1, keepdims=True)
    return out


def numbers_means(values: Floats, targets: Floats, folds: Folds) -> Floats:
    """Out-of-fold targets (N,) from one column of numbers alone, by a small tree."""
    out = np.empty(len(targets))
    for learn, judge in folds:
        tree = DecisionTreeRegressor(max_leaf_nodes=4 * _LEAVES, min_samples_leaf=5, random_state=0)
        out[judge] = tree.fit(values[learn, None], targets[learn]).predict(values[judge, None])
    return out


def category_means(codes: Ints, targets: Floats, folds: Folds) -> Floats:
    """Out-of-fold targets (N,) from one category alone: the mean of its rows, and one row of the average."""
    out = np.empty(len(targets))
    size = int(codes.max(initial=0)) + 1
    for learn, judge in folds:
        sums = np.bincount(codes[learn], weights=targets[learn], minlength=size) + targets[learn].mean()
        out[judge] = (sums / (np.bincount(codes[learn], minlength=size) + 1.0))[codes[judge]]
    return out


def skill_of_classes(probabilities: Floats, classes: Ints) -> float:
    """How much better than the commonest class: 0 is no better, 1 is every row right."""
    base = np.bincount(classes).max() / len(classes)
    right = float(np.mean(probabilities.argmax(axis=1) == classes))
    return max((right - base) / (1 - base), 0.0) if base < 1 else 0.0


def skill_of_numbers(judged: Floats, targets: Floats) -> float:
    """R squared, 0 at least."""
    spread = float(np.square(targets - targets.mean()).sum())
    return max(1 - float(np.square(targets - judged).sum()) / spread, 0.0) if spread > 0 else 0.0


def auc(scores: Floats, is_positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the ROC curve, ties counted half; and its standard error if the scores said nothing (Hanley 1982)."""
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    area = (ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(area), float(np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


def batches_of(num_rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, num_rows, size))
