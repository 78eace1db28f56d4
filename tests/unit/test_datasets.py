"""Data sets as products: what changed between two, samples, drift, and what others can load."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_datasets import column, make_dataset
from millrace import errors
from millrace.contracts.schema import ROW_ID
from millrace.datasets.differences import diff
from millrace.datasets.drift import stability_index
from millrace.datasets.huggingface import export
from millrace.datasets.reading import open_dataset
from millrace.datasets.samples import least, merge, sample

COLUMNS = [column("user", "category", "id"), column("age", "integer"), column("city", "category", "target")]


def people(num: int, *, first: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(first)
    return [
        {"n": i, "user": f"u{i}", "age": rng.randrange(20, 60), "city": rng.choice("ABC")}
        for i in range(first, first + num)
    ]


def test_a_data_set_does_not_differ_from_itself_however_it_is_cut(tmp_path: Path) -> None:
    old = make_dataset(tmp_path / "a", {"train": people(50), "test": people(10, first=50)}, COLUMNS)
    new = make_dataset(tmp_path / "b", {"train": people(50), "test": people(10, first=50)}, COLUMNS, rows_per_shard=7)
    found = diff(old, new)
    assert found.is_equal
    assert (found.matched_by, found.rows_old, found.rows_new) == ("row_id", 60, 60)
    assert max(d.value for d in found.drift) == 0


def test_rows_of_one_source_match_by_their_id(tmp_path: Path) -> None:
    rows = people(20)
    later = [dict(row) for row in rows if row["n"] != 3] + people(1, first=90)
    later[5]["age"] = 99
    later[7]["city"] = "Z"
    old = make_dataset(tmp_path / "a", {"train": rows}, COLUMNS)
    new = make_dataset(tmp_path / "b", {"train": later[1:], "test": later[:1]}, COLUMNS)
    found = diff(old, new)
    assert (found.added, found.removed, found.changed, found.moved) == (1, 1, 2, 1)
    assert found.changed_by_column == {"age": 1, "city": 1}
    assert [row.partition("-")[2] for row in (*found.removed_rows, *found.added_rows)] == ["3", "90"]
    assert {d.column: d.appeared for d in found.drift} == {"age": (), "city": ("Z",)}


def test_rows_of_two_sources_match_by_their_id_column(tmp_path: Path) -> None:
    old = make_dataset(tmp_path / "a", {"train": people(10)}, COLUMNS)
    changed = [{**row, "age": 1} if row["n"] == 2 else row for row in people(12)]
    new = make_dataset(tmp_path / "b", {"train": changed[::-1]}, COLUMNS, source="f" * 16)
    found = diff(old, new)
    assert (found.matched_by, found.columns) == ("columns", ("user",))
    assert (found.added, found.removed, found.changed) == (2, 0, 1)


def test_without_names_equal_rows_match_each_another(tmp_path: Path) -> None:
    columns = COLUMNS[1:]
    twins = [{"n": i, "age": 30, "city": "A"} for i in range(3)]
    old = make_dataset(tmp_path / "a", {"train": twins}, columns)
    new = make_dataset(tmp_path / "b", {"train": twins[:2]}, columns, source="f" * 16)
    found = diff(old, new)
    assert (found.matched_by, found.added, found.removed, found.changed) == ("content", 0, 1, 0)


def test_columns_that_came_went_or_changed_type_are_named(tmp_path: Path) -> None:
    old = make_dataset(tmp_path / "a", {"train": people(5)}, COLUMNS)
    now = [column("user", "category", "id"), column("age", "number"), column("height", "number")]
    new = make_dataset(tmp_path / "b", {"train": people(5)}, now, types={"height": pa.float64()})
    found = diff(old, new)
    assert (found.columns_added, found.columns_removed, found.columns_retyped) == (("height",), ("city",), ("age",))
    assert not found.is_equal


def test_a_column_to_match_by_must_be_there(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "a", {"train": people(5)}, COLUMNS)
    with pytest.raises(errors.InvalidInput, match="user"):
        diff(dataset, dataset, by=["usr"])


def test_a_shifted_number_drifts_and_an_equal_one_does_not() -> None:
    rng = np.random.default_rng(0)
    old, same, shifted = rng.normal(size=5000), rng.normal(size=5000), rng.normal(0.6, size=5000)
    assert stability_index(old, same) < 0.02
    assert stability_index(old, shifted) > 0.2
    assert stability_index(old, np.empty(0)) == 0


@given(st.permutations(range(40)), st.integers(1, 40), st.integers(1, 40))
def test_a_sample_is_the_same_however_rows_come(order: list[int], num_rows: int, cut: int) -> None:
    def batch(rows: list[int]) -> pa.RecordBatch:
        return pa.record_batch({ROW_ID: [f"s-{i}" for i in rows]})

    whole = least([batch(list(range(40)))], num_rows=num_rows, seed=1)
    parts = [
        found for found in (least([batch(order[:cut])], num_rows=num_rows, seed=1),
                            least([batch(order[cut:])], num_rows=num_rows, seed=1) if cut < 40 else None) if found
    ]  # fmt: skip
    assert whole is not None
    assert merge(parts, num_rows=num_rows).column(ROW_ID).to_pylist() == whole.column(ROW_ID).to_pylist()


def test_a_sample_says_which_split_a_row_is_of(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "a", {"train": people(50), "test": people(50, first=50)}, COLUMNS)
    taken = sample(dataset, num_rows=30, seed=4)
    assert taken is not None
    assert (taken.num_rows, set(taken.column("split").to_pylist())) == (30, {"train", "test"})
    again = sample(dataset, num_rows=30, seed=5)
    assert again is not None
    assert again.column(ROW_ID) != taken.column(ROW_ID)


def test_hugging_face_loads_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    image = {"bytes": _png(), "path": "a.png"}
    rows = [{**row, "picture": image, "pixels": [1.0, 2.0]} for row in people(20)]
    dataset = make_dataset(
        tmp_path / "a", {"train": rows[:15], "test": rows[15:]},
        [*COLUMNS, column("picture", "image"), column("pixels", "vector")], rows_per_shard=10,
        types={"pixels": pa.list_(pa.float32(), 2)},
    )  # fmt: skip
    files = export(dataset, tmp_path / "out", name="people")
    assert len([f for f in files if f.name.startswith("train-")]) == 2
    loaded = importlib.import_module("datasets").load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 15, "test": 5}
    row = loaded["test"][0]
    assert (row["user"], row["picture"].size, row["pixels"]) == ("u15", (3, 2), [1.0, 2.0])


def test_an_export_does_not_write_over_anything(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "a", {"train": people(5)}, COLUMNS)
    with pytest.raises(errors.InvalidInput, match="not an empty directory"):
        export(dataset, tmp_path / "a", name="people")


def test_a_directory_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match=r"schema\.json is missing"):
        open_dataset(tmp_path)


def _png() -> bytes:
    import io

    from PIL import Image

    target = io.BytesIO()
    Image.new("RGB", (3, 2)).save(target, "PNG")
    return target.getvalue()
