"""Splits leak nothing, keep their fractions, and move little when the data grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleaning_runs import clean, csv_of
from millrace.contracts.schema import SplitName
from millrace.datasets.keys import row_keys, seeded_order
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.split import SPLITS, cut_documents, split_by_group, split_in_order, split_randomly

FRACTIONS: dict[SplitName, float] = {"train": 0.64, "validation": 0.16, "test": 0.2}


def keys(numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return row_keys(pa.record_batch({"x": pa.array(numbers, pa.int64())}), ["x"])


@given(st.lists(st.integers(0, 5), min_size=60, max_size=200), st.integers(0, 2**40))
def test_each_class_keeps_its_fractions_to_one_row(classes: list[int], seed: int) -> None:
    codes = split_randomly(*keys(list(range(len(classes)))), classes=np.array(classes), seed=seed, fractions=FRACTIONS)
    for label in set(classes):
        members = codes[np.array(classes) == label]
        assert (members == 0).any()
        for code, name in enumerate(SPLITS):
            assert abs((members == code).sum() - FRACTIONS[name] * len(members)) <= 2
    for code, name in enumerate(SPLITS):
        assert abs((codes == code).sum() - FRACTIONS[name] * len(classes)) <= 1 + len(set(classes))


@given(st.lists(st.integers(0, 40), min_size=80, max_size=200), st.integers(0, 1000))
def test_equal_rows_share_a_split(numbers: list[int], seed: int) -> None:
    low, high = keys([*numbers, *range(41)])
    codes = split_randomly(low, high, classes=None, seed=seed, fractions=FRACTIONS)
    split_of = dict(zip(low.tolist(), codes.tolist(), strict=True))
    assert all(split_of[k] == code for k, code in zip(low.tolist(), codes.tolist(), strict=True))


def test_the_order_of_rows_does_not_matter() -> None:
    numbers = list(range(500))
    forward = split_randomly(*keys(numbers), classes=None, seed=4, fractions=FRACTIONS)
    backward = split_randomly(*keys(numbers[::-1]), classes=None, seed=4, fractions=FRACTIONS)
    assert (forward == backward[::-1]).all()


def test_more_rows_move_few() -> None:
    before = split_randomly(*keys(list(range(1000))), classes=None, seed=4, fractions=FRACTIONS)
    after = split_randomly(*keys(list(range(1050))), classes=None, seed=4, fractions=FRACTIONS)
    assert (before != after[:1000]).mean() < 0.05


def test_another_seed_divides_otherwise() -> None:
    one, two = (split_randomly(*keys(list(range(500))), classes=None, seed=s, fractions=FRACTIONS) for s in (1, 2))
    assert 0.3 < (one != two).mean() < 0.7


def test_a_seed_permutes_keys_and_loses_none() -> None:
    values = np.arange(10_000, dtype=np.uint64)
    assert len(np.unique(seeded_order(values, seed=9))) == 10_000


@given(st.lists(st.integers(0, 30), min_size=50, max_size=200), st.integers(0, 1000))
def test_groups_are_never_divided(members: list[int], seed: int) -> None:
    groups = np.array([*members, 50, 51, 52], dtype=np.uint64)
    codes = split_by_group(groups, seed=seed, fractions=FRACTIONS)
    for group in set(groups.tolist()):
        assert len(set(codes[groups == group].tolist())) == 1


def test_a_group_of_most_rows_trains() -> None:
    groups = np.array([1] * 80 + list(range(2, 22)), dtype=np.uint64)
    for seed in range(20):
        codes = split_by_group(groups, seed=seed, fractions=FRACTIONS)
        assert codes[0] == SPLITS.index("train")
        assert set(codes.tolist()) == {0, 1, 2}


def test_later_moments_test_and_equal_moments_stay_together() -> None:
    moments = np.array([5, 1, 1, 2, 3, 4, 5, 5, 9, 8])
    codes = split_in_order(moments, fractions=FRACTIONS, units="moments")
    assert (np.diff(codes[np.argsort(moments)]) >= 0).all()
    assert len(set(codes[moments == 5].tolist())) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20).filter(lambda sizes: sum(sizes) >= 20))
def test_documents_are_cut_at_characters_and_lose_none(sizes: list[int]) -> None:
    pieces = cut_documents(np.array(sizes), fractions=FRACTIONS)
    assert [sum(end - start for start, end, _ in row) for row in pieces] == sizes
    for code, name in enumerate(SPLITS):
        count = sum(end - start for row in pieces for start, end, c in row if c == code)
        assert abs(count - FRACTIONS[name] * sum(sizes)) <= 1


def test_the_first_of_equal_rows_stays() -> None:
    first, numbers = first_of_each(*keys([7, 8, 7, 9, 8, 7]))
    assert first.tolist() == [True, True, False, True, False, False]
    assert numbers.tolist() == [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "ab", "b": "c"}, {"a": "a", "b": "bc"}),
        ({"a": "", "b": "c"}, {"a": None, "b": "c"}),
        ({"a": 0.0, "b": 1}, {"a": None, "b": 1}),
        ({"a": [1.0, 2.0], "b": 1}, {"a": [2.0, 1.0], "b": 1}),
    ],
)
def test_different_rows_have_different_keys(one: dict[str, object], other: dict[str, object]) -> None:
    low, high = row_keys(pa.RecordBatch.from_pylist([one, other]), ["a", "b"])
    assert low[0] != low[1]
    assert high[0] != high[1]


def test_minus_zero_is_zero() -> None:
    low, _ = row_keys(pa.record_batch({"x": [0.0, -0.0]}), ["x"])
    assert low[0] == low[1]


def test_a_group_column_keeps_users_apart(tmp_path: Path) -> None:
    rows = [(i / 3, f"u{i % 17}", "ab"[i % 2]) for i in range(200)]
    made = clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "user", "y"])}, target="y", split={"by": "user"})
    users = [set(table["user"].to_pylist()) for table in made.splits.values()]
    assert not users[0] & users[1]
    assert not (users[0] | users[1]) & users[2]
    assert made.column("user").role == "group"


def test_a_time_column_lets_the_past_train(tmp_path: Path) -> None:
    rows = [(i / 3, f"2024-{1 + i * 7 % 12:02d}-{1 + i % 28:02d}", "ab"[i % 2]) for i in range(100)]
    made = clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "day", "y"])}, target="y", split={"time": "day"})
    days = {name: table["day"].to_pylist() for name, table in made.splits.items()}
    assert max(days["train"]) < min(days["validation"])
    assert max(days["validation"]) < min(days["test"])


def test_duplicates_are_removed_before_the_split_so_that_none_straddles(tmp_path: Path) -> None:
    texts = [f"a sentence with number {i % 60}" for i in range(200)]
    table = pa.table({"text": texts, "y": ["ab"[i % 2] for i in range(200)]})
    made = clean(tmp_path / "a", {"t.parquet": table}, target="y", task="text_classification")
    assert made.summary["removed"] == {"duplicate": 140}
    kept = clean(tmp_path / "b", {"t.parquet": table}, target="y", task="text_classification", dedup=False)
    assert len(kept.rows("text")) == 200
    for name, split in kept.splits.items():
        assert {kept.split_of("text")[t] for t in split["text"].to_pylist()} == {name}


def test_repeated_combinations_of_categories_are_observations(tmp_path: Path) -> None:
    rows = [("xyz"[i % 3], i % 5, "ab"[i % 7 % 2]) for i in range(300)]
    made = clean(tmp_path, {"t.csv": csv_of(rows, header=["c", "n", "y"])}, target="y")
    assert made.summary["rows_out"] == 300


def test_documents_are_divided_whole_by_default(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i} " + "word " * i for i in range(1, 51)]})
    made = clean(tmp_path, {"t.parquet": table}, task="language_modelling")
    assert sorted(made.rows("text")) == sorted(table["text"].to_pylist())
    assert made.summary["splits"] == {"train": 32, "validation": 8, "test": 10}


@pytest.mark.parametrize("bytes_per_task", [64 * 2**20, 300])
def test_one_long_text_is_cut_into_a_contiguous_tail(tmp_path: Path, bytes_per_task: int) -> None:
    text = "".join(chr(0x100 + i % 500) for i in range(1000))
    made = clean(
        tmp_path, {"t.parquet": pa.table({"text": [text]})}, task="language_modelling", bytes_per_task=bytes_per_task,
        split={"order": "contiguous", "train": 0.8, "validation": 0.1, "test": 0.1},
    )  # fmt: skip
    assert made.rows("text") == [text[:800], text[800:900], text[900:]]
    assert [i.rpartition("-")[2] for i in made.rows("row_id")] == ["0", "0.1", "0.2"]
    assert made.summary["splits"] == {"train": 1, "validation": 1, "test": 1}


def test_contiguous_rows_keep_their_order(tmp_path: Path) -> None:
    table = pa.table({"x": [i / 3 for i in range(100)], "y": [i / 7 for i in range(100)]})
    made = clean(tmp_path, {"t.parquet": table}, target="y", split={"order": "contiguous"})
    assert made.rows("x") == table["x"].to_pylist()
