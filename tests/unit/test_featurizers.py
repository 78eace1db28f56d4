"""Featurizers: fitted on batches as on the whole, the same after saving, and clear about what they cannot take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.models.featurizers import apply, fit, load_ops, save_ops, target_codes, tensor_specs
from millrace.models.ops.base import Op
from millrace.models.ops.tokens import CharTokens
from millrace.models.signature import ColumnSpec, FeaturizerOp

TABLE = pa.record_batch(
    {
        "age": [1.0, None, 3.0, 8.0],
        "member": [True, False, None, True],
        "city": ["Ulm", None, "Bonn", "Ulm"],
        "note": ["Hello hello world", "", None, "grüße an alle"],
        "pixels": pa.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 16]], pa.list_(pa.float32(), 4)),
    }
)
COLUMNS = (
    ColumnSpec(name="age", type="number", nullable=True),
    ColumnSpec(name="member", type="boolean", nullable=True),
    ColumnSpec(name="city", type="category", nullable=True),
    ColumnSpec(name="note", type="text", nullable=True),
    ColumnSpec(name="pixels", type="image", shape=(2, 2, 1)),
)


def fitted(op: str, *columns: str, batches: list[pa.RecordBatch] | None = None, **arguments: object) -> Op:
    spec = FeaturizerOp(op=op, columns=columns, output="x", arguments=arguments)
    return fit([spec], batches or [TABLE], COLUMNS)[0]


def test_standardize_centres_and_scales_and_makes_the_mean_of_what_is_missing() -> None:
    x = fitted("standardize@1", "age").apply(TABLE)
    assert x[1, 0] == 0
    present = x[[0, 2, 3], 0]
    assert abs(present.mean()) < 1e-6
    assert abs(present.std() - 1) < 1e-6


def test_missing_indicators_stand_only_for_columns_that_missed_values_in_training() -> None:
    whole = pa.record_batch({"age": [1.0, 2.0], "member": pa.array([True, None])})
    op = fitted("standardize@1", "age", "member", batches=[whole], missing_indicator=True)
    assert op.apply(whole)[:, 2].tolist() == [0, 1]
    assert op.tensor.shape == ("batch", 3)


def test_a_constant_column_is_zero_and_not_noise() -> None:
    constant = pa.record_batch({"age": [0.1] * 7})
    assert np.abs(fitted("standardize@1", "age", batches=[constant]).apply(constant)).max() < 1e-9


def test_a_huge_number_stays_finite() -> None:
    x = fitted("standardize@1", "age").apply(pa.record_batch({"age": [1e300]}))
    assert np.isfinite(x).all()


@given(st.lists(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=9), min_size=1, max_size=6))
def test_fitting_by_batches_equals_fitting_at_once(parts: list[list[float | None]]) -> None:
    batches = [pa.record_batch({"age": pa.array(p, pa.float64())}) for p in parts]
    whole = pa.record_batch({"age": pa.array([v for p in parts for v in p], pa.float64())})
    left, right = (fitted("standardize@1", "age", batches=b).state for b in (batches, [whole]))
    assert np.allclose(left["mean"], right["mean"], rtol=1e-6, atol=1e-6)
    assert np.allclose(left["deviation"], right["deviation"], rtol=1e-4, atol=1e-4)


def test_one_hot_has_a_place_for_what_training_never_saw() -> None:
    op = fitted("one_hot@1", "city")
    unseen = pa.record_batch({"city": ["Bonn", "Ulm", "Rome", None]})
    assert op.apply(unseen).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]


def test_a_schemas_vocabulary_keeps_its_order() -> None:
    spec = FeaturizerOp(op="ordinal@1", columns=("size",), output="x")
    batch = pa.record_batch({"size": ["small", "large"]})
    column = ColumnSpec(name="size", type="category", vocabulary=("small", "medium", "large"))
    assert fit([spec], [batch], [column])[0].apply(batch).tolist() == [[1], [3]]


def test_dictionary_columns_are_categories_too() -> None:
    encoded = pa.record_batch({"city": pa.array(["Ulm", "Bonn"]).dictionary_encode()})
    assert fitted("ordinal@1", "city").apply(encoded).tolist() == [[2], [1]]


@pytest.mark.parametrize(("layout", "shape"), [("flat", (4, 4)), ("nhwc", (4, 2, 2, 1)), ("nchw", (4, 1, 2, 2))])
def test_images_are_scaled_by_the_training_range(layout: str, shape: tuple[int, ...]) -> None:
    op = fitted("image_scale@1", "pixels", layout=layout)
    x = op.apply(TABLE)
    assert x.shape == shape
    assert (x.min(), x.max()) == (0, 1)
    assert op.tensor.shape[1:] == shape[1:]


def test_encoded_images_are_refused_in_words() -> None:
    encoded = pa.record_batch({"pixels": pa.array([{"bytes": b"\x89PNG", "path": "a.png"}])})
    with pytest.raises(errors.InvalidData, match="encoded images"):
        fitted("image_scale@1", "pixels", batches=[encoded])


def test_ngrams_of_equal_words_are_equal_wherever_they_stand() -> None:
    op = fitted("hashed_ngrams@1", "note", word_orders=[1], max_length=6)
    ids = op.apply(pa.record_batch({"note": ["one two one", "xx  two; ONE"]}))
    assert ids[0, 0] == ids[0, 2] == ids[1, 2]
    assert ids[0, 1] == ids[1, 1]
    assert ids[0, 3:].tolist() == [0, 0, 0]


def test_ngrams_do_not_cross_rows_or_batches() -> None:
    op = fitted("hashed_ngrams@1", "note", word_orders=[1, 2], char_orders=[2, 3], max_length=64)
    together = op.apply(TABLE.select(["note"]))
    for i in range(TABLE.num_rows):
        assert (op.apply(TABLE.select(["note"]).slice(i, 1))[0] == together[i]).all()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.sampled_from([1, 2, 3]))
def test_hashed_characters_agree_with_a_slow_reference(texts: list[str], order: int) -> None:
    op = fitted("hashed_ngrams@1", "note", word_orders=[], char_orders=[order], max_length=40, buckets=2**40)
    rows = op.apply(pa.record_batch({"note": pa.array(texts, pa.string())}))
    seen: dict[str, int] = {}
    for text, ids in zip(texts, rows, strict=True):
        folded = pa.compute.utf8_lower(pa.scalar(text)).as_py()
        grams = [folded[i : i + order] for i in range(len(folded) - order + 1)]
        assert np.count_nonzero(ids) == len(grams[:40])
        for gram, found in zip(grams, ids.tolist(), strict=False):
            assert seen.setdefault(gram, found) == found
    assert len(set(seen.values())) == len(seen)


def test_unique_ngrams_keep_the_first_of_equals() -> None:
    op = fitted("hashed_ngrams@1", "note", word_orders=[1], unique=True, max_length=4)
    ids = op.apply(pa.record_batch({"note": ["a b a b", "b a b"]}))
    assert ids[0, 0] == ids[1, 1]
    assert ids[0, 1] == ids[1, 0]
    assert (ids[:, 2:] == 0).all()


@given(st.text())
def test_characters_survive_encoding_and_decoding(text: str) -> None:
    batch = pa.record_batch({"note": pa.array([text], pa.string())})
    op = fitted("char_tokens@1", "note", batches=[batch], max_characters=10_000)
    assert isinstance(op, CharTokens)
    assert op.decode(op.encode(text)) == text


def test_an_unknown_character_is_a_replacement_and_not_an_error() -> None:
    op = fitted("char_tokens@1", "note", batches=[pa.record_batch({"note": ["abc"]})])
    assert isinstance(op, CharTokens)
    assert op.decode(op.encode("aXc")) == "a\ufffdc"


def test_operations_are_the_same_after_saving(tmp_path: Path) -> None:
    specs = [
        FeaturizerOp(op="standardize@1", columns=("age", "member"), output="x", arguments={"missing_indicator": True}),
        FeaturizerOp(op="one_hot@1", columns=("city",), output="x"),
        FeaturizerOp(op="hashed_ngrams@1", columns=("note",), output="ngrams"),
        FeaturizerOp(op="char_tokens@1", columns=("note",), output="tokens"),
        FeaturizerOp(op="image_scale@1", columns=("pixels",), output="image", arguments={"layout": "nchw"}),
    ]
    ops = fit(specs, [TABLE], COLUMNS)
    before, after = apply(ops, TABLE), apply(load_ops(save_ops(ops, tmp_path), tmp_path), TABLE)
    assert before.keys() == after.keys() == {t.name for t in tensor_specs(ops)}
    assert all((before[name] == after[name]).all() for name in before)
    assert before["x"].shape[1] == tensor_specs(ops)[0].shape[1]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (FeaturizerOp(op="standardise@1", columns=("age",), output="x"), "did you mean 'standardize@1'"),
        (FeaturizerOp(op="standardize@1", columns=("aeg",), output="x"), "did you mean 'age'"),
        (FeaturizerOp(op="standardize@1", columns=("city",), output="x"), "column 'city' is category"),
        (FeaturizerOp(op="hashed_ngrams@1", columns=("note",), output="x", arguments={"bucket": 9}), "mean 'buckets'"),
    ],
)
def test_a_wrong_spec_is_refused_in_words(spec: FeaturizerOp, says: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=says):
        fit([spec], [TABLE], COLUMNS)


def test_fitting_on_nothing_is_refused() -> None:
    with pytest.raises(errors.InvalidData, match="no rows"):
        fit([FeaturizerOp(op="standardize@1", columns=("age",), output="x")], [], COLUMNS)


def test_a_broken_asset_is_refused_in_words(tmp_path: Path) -> None:
    specs = save_ops([fitted("standardize@1", "age")], tmp_path)
    (tmp_path / specs[0].asset).write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(errors.InvalidData, match="cannot be read"):
        load_ops(specs, tmp_path)


def test_target_codes_follow_the_labels_order_and_mark_strangers() -> None:
    batch = pa.record_batch({"y": ["b", "a", "z", None]})
    assert target_codes(batch, "y", ["a", "b"]).tolist() == [1, 0, -1, -1]
