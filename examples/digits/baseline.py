"""What simple methods reach on the same rows: nearest neighbours and logistic regression, tuned on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

Strings = npt.NDArray[np.str_]
Right = npt.NDArray[np.float64]  # 1 where an answer is right


def baseline(dataset: Path, predictions: Path | None = None) -> dict[str, Any]:
    """Return test accuracies, and the model's lead over each baseline with a paired 95% interval.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`; None leaves the model out.
    """
    train, validation, test = (_split(dataset, name) for name in ("train", "validation", "test"))
    candidates: Mapping[str, list[Any]] = {
        "nearest_neighbours": [KNeighborsClassifier(k) for k in (1, 3, 5)],
        "logistic_regression": [LogisticRegression(C=c, max_iter=2000) for c in (0.01, 0.1, 1.0)],
    }
    result: dict[str, Any] = {"rows": len(test[1]), "baselines": {}}
    rights: dict[str, Right] = {}
    for name, models in candidates.items():
        best = max((m.fit(*train) for m in models), key=lambda m: float(m.score(*validation)))
        rights[name] = (best.predict(test[0]) == test[1]).astype(np.float64)
        result["baselines"][name] = {"accuracy": float(rights[name].mean())}
    if predictions is not None:
        model = _right_answers(dataset, predictions)
        result["model"] = {"accuracy": float(model.mean())}
        for name, right in rights.items():
            result["baselines"][name]["model_minus_baseline"] = _paired(model - right)
    return result


def _split(dataset: Path, name: str) -> tuple[npt.NDArray[np.float64], Strings]:
    """Images (N, 64) from 0 to 1, and labels (N,)."""
    table = _table(dataset, name)
    images = np.stack(table["image"].to_numpy()).astype(np.float64) / 16
    return images, np.array(table["label"].to_pylist(), dtype=np.str_)


def _table(dataset: Path, name: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(dataset.glob(f"data/{name}-*.parquet"))])


def _right_answers(dataset: Path, predictions: Path) -> Right:
    table = pq.read_table(predictions, columns=["row_id", "label"])
    answers = dict(zip(table["row_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    test = _table(dataset, "test")
    rows = zip(test["row_id"].to_pylist(), test["label"].to_pylist(), strict=True)
    return np.array([answers[row_id] == label for row_id, label in rows], dtype=np.float64)


def _paired(differences: Right, *, resamples: int = 2000) -> dict[str, float]:
    """The mean of per-row differences with its percentile bootstrap interval."""
    drawn = np.random.default_rng(0).integers(0, len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return {"value": float(differences.mean()), "low": float(low), "high": float(high)}
