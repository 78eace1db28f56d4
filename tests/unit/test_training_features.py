"""Which columns a task reads, and by which operations."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from millrace import errors
from millrace.contracts.schema import Column, DatasetSchema
from millrace.models.featurizers import apply, fit
from millrace.models.signature import FeaturizerOp
from millrace_training.features import choose_task, featurizers, target_of

TEXT = {"word_buckets": 100, "char_buckets": 200, "vocabulary": 50}


def schema(*columns: Column, task: str = "") -> DatasetSchema:
    return DatasetSchema(columns=columns, task=task)


def test_the_config_goes_over_the_task_of_the_data_set() -> None:
    cleaned = schema(Column(name="a", type="number"), task="tabular_classification")
    assert choose_task("", cleaned) == "tabular_classification"
    assert choose_task("tabular_regression", cleaned) == "tabular_regression"


def test_numbers_are_standardized_and_categories_made_one_hot() -> None:
    ops = featurizers(
        "tabular_classification",
        schema(
            Column(name="a", type="number"),
            Column(name="colour", type="category", vocabulary=("red",)),
            Column(name="b", type="boolean"),
            Column(name="y", type="category", role="target", vocabulary=("p", "q")),
            Column(name="left_out", type="text", role="ignore"),
        ),
        {},
    )
    assert [(op.op, op.columns, op.output) for op in ops] == [
        ("standardize@1", ("a", "b"), "features"),
        ("one_hot@1", ("colour",), "features"),
    ]


def test_a_text_is_read_as_word_ngrams_character_ngrams_and_words() -> None:
    ops = featurizers("text_classification", schema(Column(name="text", type="text")), TEXT)
    assert {op.output: op.arguments["buckets"] for op in ops} == {"word_ngrams": 100, "char_ngrams": 200, "words": 50}


def test_a_repeated_ngram_stands_for_the_logarithm_of_its_count() -> None:
    batch = pa.record_batch({"text": ["a a a a a a a a b", "b a"]})
    spec = FeaturizerOp(
        op="hashed_ngrams@1", columns=("text",), output="ids",
        arguments={"word_orders": [1], "max_length": 12, "log_repeats": True},
    )  # fmt: skip
    ids = apply(fit([spec], [batch], [Column(name="text", type="text")]), batch)["ids"]
    b, a = ids[1, :2]
    assert ids[0].tolist() == [a] * 4 + [b] + [0] * 7  # the first, second, fourth and eighth


@pytest.mark.parametrize(
    ("task", "columns", "match"),
    [
        ("image_classification", [Column(name="a", type="number")], "reads one column of type image or vector"),
        ("language_modelling", [Column(name="a", type="text"), Column(name="b", type="text")], "reads one column"),
        ("text_classification", [Column(name="a", type="number")], "Column 'a' is number"),
        ("tabular_classification", [], "no feature column"),
    ],
)
def test_columns_that_a_task_cannot_read_are_named(task: str, columns: list[Column], match: str) -> None:
    with pytest.raises(errors.InvalidData, match=match):
        featurizers(task, schema(*columns), TEXT)


def test_several_targets_are_refused() -> None:
    target: dict[str, Any] = {"type": "category", "role": "target", "vocabulary": ("p", "q")}
    with pytest.raises(errors.InvalidData, match=r"needs one target column, found 2 \(x, y\)"):
        target_of("tabular_classification", schema(Column(name="x", **target), Column(name="y", **target)))


def test_a_language_model_needs_no_target() -> None:
    assert target_of("language_modelling", schema(Column(name="a", type="text"))) is None
