"""Packages, rows and predictors: what a model takes, answers, and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from judged_models import LABELS, NAMES, rows, write_mlp
from millrace import errors
from millrace.models.generator import load_generator, sample
from millrace.models.package import package_files, read_card, read_golden
from millrace.models.predictor import load_predictor
from millrace.models.rows import check_batch, from_batch, to_batch
from millrace.models.signature import ColumnSpec, OutputSpec, Signature
from tiny_models import write_classifier, write_generator, write_regression

SIGNATURE = Signature(
    columns=(
        ColumnSpec(name="age", type="number"),
        ColumnSpec(name="count", type="integer", nullable=True),
        ColumnSpec(name="member", type="boolean", nullable=True),
        ColumnSpec(name="city", type="category", nullable=True),
        ColumnSpec(name="seen", type="timestamp", nullable=True),
        ColumnSpec(name="pixels", type="image", shape=(2, 1, 1), nullable=True),
    ),
    outputs=(OutputSpec(name="probabilities", meaning="probabilities", labels=("a", "b")),),
    program_inputs=(),
    program_outputs=(),
    featurizer=(),
)


def test_rows_become_a_batch_of_the_signatures_columns() -> None:
    sent = {"age": 3, "count": 2, "member": True, "city": 7, "seen": "2026-01-31T12:00:00", "pixels": [[[1]], [[2]]]}
    batch = to_batch([sent, {"age": 1.5}], SIGNATURE)
    assert batch.schema.names == [c.name for c in SIGNATURE.columns]
    assert batch.column("pixels").to_pylist() == [[1, 2], None]
    assert batch.column("city").to_pylist() == ["7", None]
    check_batch(batch, SIGNATURE)


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ({"agee": 1}, "rows[1].agee", "did you mean 'age'"),
        ({}, "rows[1].age", "is missing"),
        ({"age": None}, "rows[1].age", "is null"),
        ({"age": "old"}, "rows[1].age", "Expected a finite number, got a string"),
        ({"age": True}, "rows[1].age", "got a boolean"),
        ({"age": math.nan}, "rows[1].age", "got nan"),
        ({"age": 10**400}, "rows[1].age", "Expected a finite number"),
        ({"age": 1, "count": 1.5}, "rows[1].count", "a whole number"),
        ({"age": 1, "count": math.inf}, "rows[1].count", "a whole number"),
        ({"age": 1, "member": 1}, "rows[1].member", "true or false"),
        ({"age": 1, "city": ["x"]}, "rows[1].city", "got a list of 1"),
        ({"age": 1, "seen": "soon"}, "rows[1].seen", "ISO 8601"),
        ({"age": 1, "pixels": [1, 2, 3]}, "rows[1].pixels", "2 x 1 x 1 finite numbers, got a list of 3"),
        ({"age": 1, "pixels": [1, None]}, "rows[1].pixels", "finite numbers"),
        (["age", 1], "rows[1]", "Expected an object"),
    ],
)
def test_a_wrong_row_is_named_with_its_column(row: Any, field: str, says: str) -> None:
    with pytest.raises(errors.InvalidData, match=says) as caught:
        to_batch([{"age": 1}, row], SIGNATURE)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array(["1", "2"]), "holds string, expected number"),
        (pa.array([1.0, None]), "null in row 1"),
        (pa.array([1.0, math.inf]), "is inf in row 1"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(column: pa.Array, says: str) -> None:
    signature = SIGNATURE.model_copy(update={"columns": SIGNATURE.columns[:1]})
    with pytest.raises(errors.InvalidData, match=says):
        check_batch(pa.record_batch({"age": column}), signature)


def test_probabilities_are_answered_by_label() -> None:
    answers = from_batch(pa.record_batch({"probabilities": [[0.25, 0.75]]}), SIGNATURE)
    assert answers == [{"probabilities": {"a": 0.25, "b": 0.75}}]


def test_a_classifier_answers_labels_and_probabilities_in_order(tmp_path: Path) -> None:
    predictor = load_predictor(write_mlp(tmp_path / "m"))
    data = rows(100, seed=9)
    answer = predictor.predict(data.to_batches()[0])
    assert answer.column("label").to_pylist() == data["label"].to_pylist()
    probabilities = np.array(answer.column("probabilities").to_pylist())
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert [LABELS[i] for i in probabilities.argmax(axis=1)] == answer.column("label").to_pylist()


def test_a_batch_of_no_rows_is_answered_with_none(tmp_path: Path) -> None:
    predictor = load_predictor(write_classifier(tmp_path))
    assert predictor.predict(read_golden(tmp_path)[0].slice(0, 0)).num_rows == 0


def test_a_regression_answers_numbers(tmp_path: Path) -> None:
    predictor = load_predictor(write_regression(tmp_path, scale=2.0))
    batch = pa.record_batch({"x": [1.0, -3.0], "bonus": pa.array([5, None], pa.int64())})
    assert predictor.predict(batch).column("value").to_pylist() == [7.0, -6.0]


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    batch = rows(1, seed=1).rename_columns([*NAMES[:-1], "x_7", "label"]).to_batches()[0]
    with pytest.raises(errors.InvalidData, match="no column 'x7'; did you mean 'x_7'"):
        load_predictor(write_mlp(tmp_path / "m")).predict(batch)


def test_golden_rows_come_back_as_they_were(tmp_path: Path) -> None:
    directory = write_mlp(tmp_path / "m")
    source, answers = read_golden(directory)
    assert source.schema.names == list(NAMES)
    assert load_predictor(directory).predict(source).equals(answers)


def test_a_packages_files_are_those_that_its_card_names(tmp_path: Path) -> None:
    assert set(package_files(write_mlp(tmp_path / "m"))) == {
        "model.json", "weights.safetensors", "golden.parquet", "programs/fp32.onnx",
        "featurizer/standardize-0.safetensors",
    }  # fmt: skip


def test_a_stranger_in_a_package_is_refused(tmp_path: Path) -> None:
    (write_mlp(tmp_path / "m") / "weights.pkl").write_bytes(b"\x80")
    with pytest.raises(errors.InvalidData, match="not named by"):
        package_files(tmp_path / "m")


def test_a_link_in_a_package_is_refused(tmp_path: Path) -> None:
    directory = write_mlp(tmp_path / "m")
    (directory / "golden.parquet").rename(tmp_path / "elsewhere")
    (directory / "golden.parquet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.InvalidData, match="is a link"):
        package_files(directory)


@pytest.mark.parametrize(
    "name", ["../../etc/weights.safetensors", "/abs.safetensors", "weights.pkl", "a/../b.safetensors"]
)
def test_a_card_cannot_name_a_file_outside_or_of_another_kind(tmp_path: Path, name: str) -> None:
    directory = write_mlp(tmp_path / "m")
    card = json.loads((directory / "model.json").read_text())
    (directory / "model.json").write_text(json.dumps({**card, "weights": name}))
    with pytest.raises(errors.InvalidData, match="not the name of"):
        load_predictor(directory)


def test_a_directory_that_is_no_package_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidData, match="is not a model package"):
        read_card(tmp_path)


def test_a_broken_program_is_refused_in_words(tmp_path: Path) -> None:
    directory = write_mlp(tmp_path / "m")
    (directory / "programs/fp32.onnx").write_bytes(b"not a program")
    with pytest.raises(errors.InvalidData, match=r"fp32\.onnx cannot be loaded"):
        load_predictor(directory)


def test_an_unknown_program_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match=r"did you mean 'programs/fp32\.onnx'"):
        load_predictor(write_mlp(tmp_path / "m"), program="programs/fp23.onnx")


def test_a_model_that_needs_torch_is_refused_here(tmp_path: Path) -> None:
    directory = write_mlp(tmp_path / "m")
    card = json.loads((directory / "model.json").read_text())
    (directory / "model.json").write_text(json.dumps({**card, "requires": "torch"}))
    with pytest.raises(errors.InvalidInput, match="needs torch"):
        load_predictor(directory)


def test_generation_runs_past_the_context(tmp_path: Path) -> None:
    generator = load_generator(write_generator(tmp_path))
    text = "".join(generator.generate("ab", max_tokens=100, temperature=0))
    assert text == ("cab" * 34)[:100]


def test_a_prompt_longer_than_the_context_counts_by_its_end(tmp_path: Path) -> None:
    generator = load_generator(write_generator(tmp_path))
    assert next(generator.generate("abc" * 50 + "a", temperature=0)) == "b"


def test_equal_seeds_give_equal_texts(tmp_path: Path) -> None:
    generator = load_generator(write_generator(tmp_path))
    first, second = ("".join(generator.generate("a", temperature=5.0, seed=3)) for _ in range(2))
    assert first == second


def test_decoding_step_by_step_gives_the_logits_of_prefilling(tmp_path: Path) -> None:
    generator = load_generator(write_generator(tmp_path))
    tokens = np.array([[2, 3, 4, 2]], dtype=np.int64)
    whole, cache = generator.prefill(tokens)
    half, grown = generator.prefill(tokens[:, :2])
    rest, grown = generator.decode(tokens[:, 2:], grown)
    assert np.array_equal(np.concatenate([half, rest], axis=1), whole)
    assert grown.shape == cache.shape


def test_sampling_keeps_to_the_top_k_and_never_draws_the_unknown() -> None:
    logits = np.array([99.0, 0.0, 1.0, 2.0, 3.0])
    random = np.random.default_rng(0)
    drawn = {sample(logits, temperature=1.0, top_k=2, random=random) for _ in range(200)}
    assert drawn == {3, 4}


def test_a_table_model_generates_no_text(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="only language models"):
        load_generator(write_mlp(tmp_path / "m"))
