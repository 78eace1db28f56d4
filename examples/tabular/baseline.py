"""What logistic regression reaches on the same rows, its strength tuned on the validation split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.comparing import MODEL, Comparison, answers_of, compare_answers, read_split

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def compare(dataset: Path, predictions: Path) -> Comparison:
    """Return accuracies on the test split.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`.
    """
    columns = json.loads((dataset / "schema.json").read_text(encoding="utf-8"))["columns"]
    features = [column["name"] for column in columns if column["role"] == "feature"]
    target = next(column["name"] for column in columns if column["role"] == "target")
    train, validation, test = (read_split(dataset, name) for name in ("train", "validation", "test"))
    models = {
        strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)).fit(
            _matrix(train, features), train[target].to_pylist()
        )
        for strength in STRENGTHS
    }
    # By log loss: on a hundred rows many strengths have the same accuracy.
    losses = {s: _log_loss(m, _matrix(validation, features), validation[target].to_pylist()) for s, m in models.items()}
    best = min(losses, key=losses.__getitem__)
    answers = {
        MODEL: answers_of(predictions, test),
        "logistic_regression": models[best].predict(_matrix(test, features)),
    }
    return compare_answers(test, target, answers, tuned={"logistic_regression": f"C = {best:g}"})


def _matrix(table: pa.Table, features: list[str]) -> npt.NDArray[np.float64]:
    return np.column_stack([table[name].to_numpy() for name in features])


def _log_loss(model: Any, rows: npt.NDArray[np.float64], labels: list[str]) -> float:
    probabilities = model.predict_proba(rows)
    columns = np.searchsorted(model.classes_, labels)
    return float(-np.log(probabilities[np.arange(len(labels)), columns]).mean())
