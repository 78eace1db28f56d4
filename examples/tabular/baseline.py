"""What logistic regression reaches on the same rows, its strength tuned on the validation split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
Right = npt.NDArray[np.float64]  # 1 where an answer is right


def baseline(dataset: Path, predictions: Path | None = None) -> dict[str, Any]:
    """Return test accuracies, and the model's lead over the baseline with a paired 95% interval.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`; None leaves the model out.
    """
    schema = json.loads((dataset / "schema.json").read_text(encoding="utf-8"))
    features = [c["name"] for c in schema["columns"] if c["role"] == "feature"]
    target = next(c["name"] for c in schema["columns"] if c["role"] == "target")
    train, validation, test = (_table(dataset, name) for name in ("train", "validation", "test"))
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(
            _matrix(train, features), train[target].to_pylist()
        )
        for c in STRENGTHS
    ]
    # By log loss: on a hundred rows many strengths have the same accuracy.
    losses = [_log_loss(m, _matrix(validation, features), validation[target].to_pylist()) for m in models]
    chosen = int(np.argmin(losses))
    right = (models[chosen].predict(_matrix(test, features)) == test[target].to_numpy()).astype(np.float64)
    found: dict[str, Any] = {"accuracy": float(right.mean()), "C": STRENGTHS[chosen]}
    result: dict[str, Any] = {"rows": test.num_rows, "baselines": {"logistic_regression": found}}
    if predictions is not None:
        model_right = _right_answers(test, target, predictions)
        result["model"] = {"accuracy": float(model_right.mean())}
        found["model_minus_baseline"] = _paired(model_right - right)
    return result


def _table(dataset: Path, name: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(dataset.glob(f"data/{name}-*.parquet"))])


def _matrix(table: pa.Table, features: list[str]) -> npt.NDArray[np.float64]:
    return np.column_stack([table[name].to_numpy() for name in features])


def _log_loss(model: Any, rows: npt.NDArray[np.float64], labels: list[str]) -> float:
    probabilities = model.predict_proba(rows)
    columns = np.searchsorted(model.classes_, labels)
    return float(-np.log(probabilities[np.arange(len(labels)), columns]).mean())


def _right_answers(test: pa.Table, target: str, predictions: Path) -> Right:
    table = pq.read_table(predictions, columns=["row_id", "label"])
    answers = dict(zip(table["row_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    rows = zip(test["row_id"].to_pylist(), test[target].to_pylist(), strict=True)
    return np.array([answers[row_id] == label for row_id, label in rows], dtype=np.float64)


def _paired(differences: Right, *, resamples: int = 2000) -> dict[str, float]:
    """The mean of per-row differences with its percentile bootstrap interval."""
    drawn = np.random.default_rng(0).integers(0, len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return {"value": float(differences.mean()), "low": float(low), "high": float(high)}
