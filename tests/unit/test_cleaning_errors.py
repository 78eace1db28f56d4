"""Bad input ends in an error that names the file, the line, the column or the field, and says what to do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from cleaning_runs import clean, csv_of
from millrace import errors
from millrace_cleaning.settings import CleanConfig
from reading_runs import png_of

ROWS = [(i, i / 3, "ab"[i % 2]) for i in range(40)]
HEADER = ["n", "x", "label"]
GOOD = csv_of(ROWS, header=HEADER)
TABLE = pa.table({"x": [i / 3 for i in range(40)], "label": list("ab") * 20})


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


WHOLE = parquet_bytes(TABLE)
CORRUPT = WHOLE[:40] + bytes(20) + WHOLE[60:]
DOUBLE = parquet_bytes(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("t.csv", b"", ["t.csv is empty"]),
        ("t.csv", b"\n\n\n", ["t.csv is empty"]),
        ("t.csv", b"n,x,label\n", ["no rows"]),
        ("t.jsonl", b"", ["no rows"]),
        ("t.csv", GOOD + b"1,2\n", ["t.csv, line 42", "expected 3 values", "found 2"]),
        ("t.csv", GOOD + b"1,2,a,b\n", ["t.csv, line 42", "expected 3 values", "found 4"]),
        ("t.csv", GOOD + b'1,2,"a\n3,4,b\n', ["t.csv, line 42", "quote", "truncated"]),
        ("t.csv", b"n,n,label\n1,2,a\n", ["'n' stands twice"]),
        ("t.csv", GOOD + "1,2,ä\n".encode("latin-1"), ["t.csv, line 42", "not utf-8", "encoding: latin-1"]),
        ("t.csv", b"n,\xff,label\n1,2,a\n", ["t.csv, line 1", "not utf-8"]),
        ("t.jsonl", b'{"label": "a"}\n{"label": \n', ["t.jsonl, line 2", "not JSON", "truncated"]),
        ("t.jsonl", b'{"label": "a"}\n[1, 2]\n', ["t.jsonl, line 2", "expected a JSON object", "list"]),
        ("t.jsonl", b'{"label": "a", "label": "b"}\n', ["t.jsonl, line 1", "'label' stands twice"]),
        ("t.jsonl", b'{"label": "\xff"}\n', ["t.jsonl, line 1", "not utf-8"]),
        ("t.jsonl", b'{"label": "\\ud800"}\n', ["'label'", "surrogate"]),
        ("t.jsonl", b"[" * 100_000 + b"\n", ["t.jsonl, line 1", "not JSON"]),
        ("t.parquet", b"not parquet at all", ["t.parquet is not a whole Parquet file", "truncated"]),
        ("t.parquet", b"", ["t.parquet is not a whole Parquet file"]),
        ("t.parquet", WHOLE[:-40], ["t.parquet is not a whole Parquet file"]),
        ("t.parquet", CORRUPT, ["t.parquet is not a whole Parquet file"]),
        ("t.parquet", DOUBLE, ["t.parquet", "'a' stands twice"]),
        ("t.xlsx", b"PK", ["no data file", "t.xlsx", ".csv"]),
    ],
)  # fmt: skip
def test_an_unreadable_file_is_refused(tmp_path: Path, path: str, content: bytes, says: list[str]) -> None:
    with pytest.raises(errors.InvalidData) as caught:
        clean(tmp_path, {path: content}, target="label")
    assert all(part in str(caught.value) for part in says), str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        ({"target": "lable"}, "with.target", ["no column 'lable'", "did you mean 'label'"]),
        ({"target": "label", "features": ["X"]}, "with.features", ["no column 'X'", "x"]),
        ({"target": "label", "ignore": "m"}, "with.ignore", ["no column 'm'"]),
        ({"target": "label", "columns": {"y": {"type": "number"}}}, "with.columns.y", ["no column 'y'"]),
        ({"target": "label", "split": {"by": "user"}}, "with.split.by", ["no column 'user'"]),
        ({"target": "label", "split": {"time": "when"}}, "with.split.time", ["no column 'when'"]),
        ({"split": {"time": "label"}}, "with.split.time", ["'label' is of type category"]),
        ({"task": "tabular_classification"}, "with.target", ["needs a target", "n, x, label"]),
        ({"task": "tabular_regression", "target": "label"}, "with.columns.label.type", ["'label' is category"]),
        ({"task": "text_classification", "target": "label"}, "with.features", ["feature of type text", "n (integer)"]),
        ({"task": "image_classification", "target": "label"}, "with.features", ["feature of type image"]),
        ({"target": ["label", "n", "x"]}, "with.features", ["No column is left to learn from"]),
        ({"target": "label", "columns": {"x": {"type": "vector"}}}, "with.columns.x.type", ["no lists"]),
    ],
)
def test_a_config_that_does_not_fit_the_data_is_refused(
    tmp_path: Path, config: dict[str, Any], field: str, says: list[str]
) -> None:
    with pytest.raises(errors.InvalidData) as caught:
        clean(tmp_path, {"t.csv": GOOD}, **config)
    assert caught.value.field == field
    assert all(part in str(caught.value) for part in says), str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"split": {"train": 0.9}}, "must be 1, and is 1.26"),
        ({"split": {"by": "a", "time": "b"}}, "only one of by, time"),
        ({"target": "a", "ignore": "a"}, "'a' stands in two"),
        ({"task": "text_clasification"}, "did you mean 'text_classification'"),
        ({"encoding": "utf-9"}, "no encoding 'utf-9'"),
        ({"columns": {"a": {"shape": [0]}}}, "at least one dimension"),
        ({"columns": {"a": {"vocabulary": ["x", "x"]}}}, "twice in the vocabulary"),
        ({"rows_per_shard": 0}, "greater than or equal to 1"),
        ({"targets": "a"}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused_at_submit(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CleanConfig.model_validate(config)


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidData, match=r"'label' has one class only: a"):
        clean(tmp_path, {"t.csv": csv_of([(i, "a") for i in range(30)], header=["x", "label"])}, target="label")


def test_one_class_left_by_dedup_says_so(tmp_path: Path) -> None:
    rows = [("same text here every time", label) for label in "aab"]
    with pytest.raises(errors.InvalidData, match=r"only \['a'\] is left after rows with equal features"):
        clean(tmp_path, {"t.csv": csv_of(rows, header=["t", "label"])}, target="label", features="t")


def test_when_every_feature_was_set_aside_the_reasons_are_given(tmp_path: Path) -> None:
    rows = [(i, 1, "ab"[i % 2]) for i in range(30)]
    with pytest.raises(errors.InvalidData, match=r"'id' counts rows.*'same' is constant"):
        clean(tmp_path, {"t.csv": csv_of(rows, header=["id", "same", "label"])}, target="label")


def test_nan_labels_are_dropped_and_counted_by_default(tmp_path: Path) -> None:
    labels = [float("nan") if i % 4 == 0 else float(i % 2) for i in range(80)]
    table = pa.table({"x": [i / 7 for i in range(80)], "y": labels})
    made = clean(tmp_path, {"t.parquet": table}, target="y", task="tabular_classification")
    assert made.summary["removed"] == {"null_y": 20}
    assert any("20 of 80 rows went: null_y" in w for w in made.summary["warnings"])


def test_nan_labels_are_refused_with_their_row_where_asked(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0], "y": [0.5, float("nan"), 1.5]})
    with pytest.raises(errors.InvalidData, match=r"t\.parquet, row 2: the target 'y' is null \(or NaN\)") as caught:
        clean(tmp_path, {"t.parquet": table}, target="y", on_null_target="fail")
    assert "on_null_target: drop" in caught.value.remedy


def test_all_labels_null_says_that_no_row_is_left(tmp_path: Path) -> None:
    rows = [(i, "") for i in range(10)]
    with pytest.raises(errors.InvalidData, match=r"No row is left: null_label \(10\)"):
        clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "label"])}, target="label")


def test_an_unparseable_value_is_refused_with_its_place_where_asked(tmp_path: Path) -> None:
    content = GOOD.replace(b"\n7,", b"\nseven,")
    with pytest.raises(errors.InvalidData, match=r't\.csv, row 8, column \'n\': "seven" is no integer'):
        clean(tmp_path, {"t.csv": content}, target="label", on_unparseable="fail")


def test_rows_of_a_later_part_are_counted_from_the_start_of_their_file(tmp_path: Path) -> None:
    table = pa.table({"x": [*map(str, range(299)), "?!"], "label": list("ab") * 150})
    with pytest.raises(errors.InvalidData, match=r"t\.parquet, row 300, column 'x'"):
        clean(tmp_path, {"t.parquet": table}, target="label", on_unparseable="fail", bytes_per_task=1000)


def test_a_null_group_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = [(i, f"u{i // 4}", "ab"[i % 2]) for i in range(40)]
    rows[5] = (5, "", "a")
    with pytest.raises(errors.InvalidData, match=r"t\.csv, row 6: the group 'user' is null"):
        clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "user", "y"])}, target="y", split={"by": "user"})


@pytest.mark.parametrize("num_rows", [1, 2])
def test_too_few_rows_for_the_splits_are_refused(tmp_path: Path, num_rows: int) -> None:
    table = pa.table({"x": [float(i) for i in range(num_rows)], "y": [i / 7 for i in range(num_rows)]})
    with pytest.raises(errors.InvalidData, match=rf"{num_rows} distinct rows are too few: the \w+ split"):
        clean(tmp_path, {"t.parquet": table}, target="y", task="tabular_regression")


def test_too_few_groups_for_the_splits_are_refused(tmp_path: Path) -> None:
    rows = [(i, f"u{i % 2}", i / 7) for i in range(40)]
    with pytest.raises(errors.InvalidData, match=r"2 groups are too few"):
        clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "user", "y"])}, target="y", split={"by": "user"})


def test_files_with_different_columns_are_refused(tmp_path: Path) -> None:
    other = csv_of([(1, "a")], header=["n", "label"])
    with pytest.raises(errors.InvalidData, match=r"b\.csv lacks the column 'x', which a\.csv has"):
        clean(tmp_path, {"a.csv": GOOD, "b.csv": other}, target="label")


def test_images_as_numbers_need_a_shape(tmp_path: Path) -> None:
    table = pa.table({"image": [[float(i)] * 4 for i in range(20)], "label": list("ab") * 10})
    with pytest.raises(errors.InvalidData, match=r"height and width are not known.*shape: \[height"):
        clean(tmp_path, {"t.parquet": table}, target="label", columns={"image": {"type": "image"}})


def test_images_of_the_wrong_length_are_removed_and_counted(tmp_path: Path) -> None:
    images = [[float(i)] * (3 if i == 7 else 4) for i in range(20)]
    columns = {"image": {"type": "image", "shape": [2, 2, 1]}}
    made = clean(
        tmp_path, {"t.parquet": pa.table({"image": images, "label": list("ab") * 10})}, target="label", columns=columns
    )
    assert (made.profile["unparseable"], made.summary["removed"]) == ({"image": 1}, {"null_image": 1})


def test_a_language_model_learns_from_one_column(tmp_path: Path) -> None:
    table = pa.table({"title": ["a b c d e f"] * 9, "text": [f"some words and {i}" for i in range(9)]})
    columns = {"title": {"role": "feature", "type": "text"}}
    with pytest.raises(errors.InvalidData, match=r"learns from one column; found title, text"):
        clean(tmp_path, {"t.parquet": table}, task="language_modelling", columns=columns)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_bad_rows_leave_the_same_data_set_however_a_file_is_cut(tmp_path: Path, suffix: str) -> None:
    rows = [json.dumps({"n": i, "x": i / 3, "label": "ab"[i % 2]}) for i in range(40)]
    content = GOOD if suffix == "csv" else "\n".join(rows).encode() + b"\n"
    bad = (
        content[: len(content) // 2].rpartition(b"\n")[0]
        + b"\nbroken\n"
        + content[len(content) // 2 :].partition(b"\n")[2]
    )
    files = {f"t.{suffix}": bad}
    whole = clean(tmp_path / "whole", files, target="label", on_bad_row="skip")
    cut = clean(tmp_path / "cut", files, target="label", on_bad_row="skip", bytes_per_task=100)
    assert cut.num_tasks > whole.num_tasks
    assert cut.ref.digest == whole.ref.digest
    assert len(whole.rows("n")) == 39


def test_a_directory_of_images_becomes_a_data_set(tmp_path: Path) -> None:
    files = {f"{'cat' if i % 2 else 'dog'}/{i}.png": png_of(i + 1, 2) for i in range(40)}
    made = clean(tmp_path, files, target="label", task="image_classification")
    assert made.column("image").type == "image"
    assert set(made.rows("label")) == {"cat", "dog"}
