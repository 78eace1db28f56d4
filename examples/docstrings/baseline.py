"""What TF-IDF and logistic regression reach on the same rows, tuned on the validation split. It is a strong baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

from examples.comparing import MODEL, Comparison, answers_of, compare_answers, read_split


def _words() -> Any:
    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))


def _words_and_characters() -> Any:
    return make_union(_words(), TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5)))


FEATURES: dict[str, Callable[[], Any]] = {"words": _words, "words and characters": _words_and_characters}
STRENGTHS = (10.0, 100.0)
BASELINE = "tfidf_logistic_regression"


def compare(dataset: Path, predictions: Path) -> Comparison:
    """Return accuracies on the test split. The baseline learns from the train split alone, as the model does.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`.
    """
    train, validation, test = (read_split(dataset, name) for name in ("train", "validation", "test"))
    scores: dict[str, float] = {}
    answers: dict[str, list[str]] = {}
    for name, make in FEATURES.items():
        vectorizer = make()
        rows = vectorizer.fit_transform(train["text"].to_pylist())
        validation_rows, test_rows = (vectorizer.transform(part["text"].to_pylist()) for part in (validation, test))
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=300).fit(rows, train["package"].to_pylist())
            choice = f"{name}, C = {strength:g}"
            scores[choice] = float(model.score(validation_rows, validation["package"].to_pylist()))
            answers[choice] = model.predict(test_rows)
    best = max(scores, key=scores.__getitem__)
    given = {MODEL: answers_of(predictions, test), BASELINE: answers[best]}
    return compare_answers(test, "package", given, tuned={BASELINE: best})
