"""What TF-IDF and logistic regression reach on the same rows, tuned on the validation split. It is a strong baseline."""

from __future__ import annotations

from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

from examples.comparing import MODEL, Comparison, answers_of, compare_answers, read_split

BASELINE = "tfidf_logistic_regression"
STRENGTHS = (30.0, 100.0, 300.0, 1000.0)  # with words alone it was behind on the validation splits of seeds 0 to 2


def compare(dataset: Path, predictions: Path) -> Comparison:
    """Return accuracies on the test split. The baseline learns from the train split alone, as the model does.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`.
    """
    train, validation, test = (read_split(dataset, name) for name in ("train", "validation", "test"))
    vectorizer = make_union(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5)),
    )
    rows = vectorizer.fit_transform(train["text"].to_pylist())
    validation_rows, test_rows = (vectorizer.transform(part["text"].to_pylist()) for part in (validation, test))
    models = {c: LogisticRegression(C=c, max_iter=500).fit(rows, train["package"].to_pylist()) for c in STRENGTHS}
    scores = {c: float(model.score(validation_rows, validation["package"].to_pylist())) for c, model in models.items()}
    best = max(scores, key=scores.__getitem__)
    given = {MODEL: answers_of(predictions, test), BASELINE: models[best].predict(test_rows)}
    return compare_answers(test, "package", given, tuned={BASELINE: f"C = {best:g}"})
