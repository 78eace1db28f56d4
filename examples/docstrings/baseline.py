"""What TF-IDF and logistic regression reach on the same rows, tuned on the validation split. It is a strong baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

Right = npt.NDArray[np.float64]  # 1 where an answer is right


def _words() -> Any:
    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))


def _words_and_characters() -> Any:
    return make_union(_words(), TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5)))


FEATURES: dict[str, Callable[[], Any]] = {"words": _words, "words and characters": _words_and_characters}
STRENGTHS = (10.0, 100.0)


def baseline(dataset: Path, predictions: Path | None = None) -> dict[str, Any]:
    """Return test accuracies, and the model's lead over the baseline with a paired 95% interval.

    Both learn from the train split alone and choose by the validation split.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`; None leaves the model out.
    """
    train, validation, test = (_table(dataset, name) for name in ("train", "validation", "test"))
    best: tuple[float, str, float, Right] | None = None
    for name, make in FEATURES.items():
        vectorizer = make()
        rows = vectorizer.fit_transform(train["text"].to_pylist())
        others = [vectorizer.transform(part["text"].to_pylist()) for part in (validation, test)]
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=300).fit(rows, train["package"].to_pylist())
            score = float(model.score(others[0], validation["package"].to_pylist()))
            if best is None or score > best[0]:
                answers = model.predict(others[1])
                best = (score, name, strength, (answers == test["package"].to_numpy()).astype(np.float64))
    assert best is not None
    _, features, strength, right = best
    found: dict[str, Any] = {"accuracy": float(right.mean()), "features": features, "C": strength}
    result: dict[str, Any] = {"rows": test.num_rows, "baselines": {"tfidf_logistic_regression": found}}
    if predictions is not None:
        model_right = _right_answers(test, predictions)
        result["model"] = {"accuracy": float(model_right.mean())}
        found["model_minus_baseline"] = _paired(model_right - right)
    return result


def _table(dataset: Path, name: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(dataset.glob(f"data/{name}-*.parquet"))])


def _right_answers(test: pa.Table, predictions: Path) -> Right:
    table = pq.read_table(predictions, columns=["row_id", "label"])
    answers = dict(zip(table["row_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    rows = zip(test["row_id"].to_pylist(), test["package"].to_pylist(), strict=True)
    return np.array([answers[row_id] == label for row_id, label in rows], dtype=np.float64)


def _paired(differences: Right, *, resamples: int = 2000) -> dict[str, float]:
    """The mean of per-row differences with its percentile bootstrap interval."""
    drawn = np.random.default_rng(0).integers(0, len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return {"value": float(differences.mean()), "low": float(low), "high": float(high)}
