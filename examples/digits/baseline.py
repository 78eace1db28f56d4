"""What simple methods reach on the same rows: nearest neighbours and logistic regression, tuned on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from examples.comparing import MODEL, Comparison, answers_of, compare_answers, read_split

NEIGHBOURS = (1, 3, 5)
STRENGTHS = (0.01, 0.1, 1.0)


def compare(dataset: Path, predictions: Path) -> Comparison:
    """Return accuracies on the test split.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`.
    """
    candidates: Mapping[str, dict[str, Any]] = {
        "nearest_neighbours": {f"k = {k}": KNeighborsClassifier(k) for k in NEIGHBOURS},
        "logistic_regression": {f"C = {c:g}": LogisticRegression(C=c, max_iter=2000) for c in STRENGTHS},
    }
    train, validation = (_images_and_labels(read_split(dataset, name)) for name in ("train", "validation"))
    test = read_split(dataset, "test")
    answers = {MODEL: answers_of(predictions, test)}
    tuned = {}
    for method, models in candidates.items():
        scores = {choice: float(model.fit(*train).score(*validation)) for choice, model in models.items()}
        tuned[method] = max(scores, key=scores.__getitem__)
        answers[method] = models[tuned[method]].predict(_images_and_labels(test)[0])
    return compare_answers(test, "label", answers, tuned=tuned)


def _images_and_labels(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Images (N, 64) from 0 to 1, and labels (N,)."""
    images = np.stack(table["image"].to_numpy()).astype(np.float64) / 16
    return images, np.array(table["label"].to_pylist(), dtype=np.str_)
