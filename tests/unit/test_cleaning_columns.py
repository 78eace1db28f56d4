"""Which type and role a column gets, and what becomes of values that are not of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cleaning_runs import clean, csv_of
from millrace import errors
from millrace.contracts.schema import ColumnType
from millrace_cleaning.infer import make_plan
from millrace_cleaning.scan import ColumnScan, scan_batches
from millrace_cleaning.settings import CleanConfig
from millrace_deployment.raw_rows import NULL_VALUES

NULLS = CleanConfig().null_values


def inferred(values: list[Any], **config: Any) -> tuple[ColumnType, str]:
    """Type and role of column `x`, beside a column that can be learned from."""
    batch = pa.record_batch({"x": pa.array(values), "other": pa.array([i / 3 for i in range(len(values))])})
    scans, _ = scan_batches([batch], null_values=NULLS)
    column = make_plan(scans, config=CleanConfig.model_validate(config)).columns[0]
    return column.type, column.role


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-2", "+3"] * 9, "integer"),
        (["1", "2.5", "1e-3"] * 9, "number"),
        (["1", "NA", "n/a", " 7 "] * 9, "integer"),
        (["01067", "04109", "80331"] * 9, "category"),  # postal codes
        (["yes", "No", "TRUE"] * 9, "boolean"),
        (["2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04"] * 9, "timestamp"),
        (["red", "green", "blue"] * 9, "category"),
        ([f"a review that says something about {i}" for i in range(27)], "text"),
        ([f"word {i} of many" for i in range(300)], "text"),
        ([True, False, True] * 9, "boolean"),
        ([1, 2, 3] * 9, "integer"),
        ([1.0, None, 3.0] * 9, "number"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]] * 9, "vector"),
        ([[1, 2], [3], [4, 5, 6]] * 9, "tokens"),
        ([b"\x89PNG", b"\xff\xd8", b"GIF8"] * 9, "image"),
        ([{"bytes": b"RIFF....WAVEfmt ", "path": "a"}, {"bytes": b"fLaC", "path": "b"}] * 9, "audio"),
        ([b"OggS", b"ID3", b"\xff\xfb\x90\x00"] * 9, "audio"),
        ([b"OggS", b"\x89PNG", b"GIF8"] * 9, "image"),
        ([{"a": 1}, {"a": 2}, {"a": 3}] * 9, "json"),
    ],
)
def test_a_type_follows_from_the_values(values: list[Any], type_: ColumnType) -> None:
    assert inferred(values)[0] == type_


def test_prediction_takes_the_same_words_for_a_missing_value() -> None:
    assert tuple(NULL_VALUES) == NULLS


def test_a_little_dirt_does_not_change_a_type_and_much_does() -> None:
    numbers = [str(i) for i in range(100)]
    assert inferred([*numbers[:96], "a", "b", "c", "d"])[0] == "integer"
    assert inferred([*numbers[:80], *[f"unknown{i}" for i in range(20)]])[0] == "text"


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (["same"] * 20, "ignore"),
        ([None] * 20, "ignore"),
        ([f"{i:08x}-{i:04x}" for i in range(40)], "id"),
        ([{"a": i} for i in range(20)], "ignore"),
        (list(range(20)), "feature"),
    ],
)
def test_a_column_without_meaning_is_set_aside(values: list[Any], role: str) -> None:
    if values[0] is None:
        batch = pa.record_batch({"x": pa.nulls(20), "other": pa.array(range(20))})
        scans, _ = scan_batches([batch], null_values=NULLS)
        assert make_plan(scans, config=CleanConfig()).columns[0].role == role
    else:
        assert inferred(values)[1] == role


def test_what_the_user_says_wins() -> None:
    columns = {"x": {"type": "text", "role": "context"}}
    assert inferred([1, 2, 3], columns=columns) == ("text", "context")
    assert inferred([1, 2, 3], ignore="x") == ("integer", "ignore")
    assert inferred([1, 2, 3], features="other") == ("integer", "ignore")
    assert inferred([1, 2, 3], target="x", task="tabular_classification") == ("category", "target")
    assert inferred([1, 2, 3], target="x", task="tabular_regression") == ("integer", "target")


def test_few_whole_numbers_as_a_target_are_classes_and_say_so() -> None:
    scans, _ = scan_batches([pa.record_batch({"y": [0, 1] * 9, "x": [i / 3 for i in range(18)]})], null_values=NULLS)
    plan = make_plan(scans, config=CleanConfig(target="y"))
    assert plan.columns[0].type == "category"
    assert "type: number" in plan.warnings[0]
    assert inferred([i / 7 for i in range(18)], target="x")[0] == "number"


def test_scans_of_parts_merge_to_the_scan_of_the_whole() -> None:
    values = pa.array(["1", "x y", None, "2.5", "NA", "true", "2024-01-01", "a"] * 5)
    whole, left, right = ColumnScan(), ColumnScan(), ColumnScan()
    whole.add(values, null_values=NULLS)
    left.add(values[:13], null_values=NULLS)
    right.add(values[13:], null_values=NULLS)
    left.merge(ColumnScan.from_json(right.to_json()))
    assert left == whole


def test_unparseable_values_become_null_and_are_counted(tmp_path: Path) -> None:
    rows = [(i if i % 10 else "oops", i / 3, "ab"[i % 2]) for i in range(1, 60)]
    made = clean(
        tmp_path, {"t.csv": csv_of(rows, header=["n", "x", "y"])}, target="y", columns={"n": {"type": "integer"}}
    )
    assert made.profile["unparseable"] == {"n": 5}
    assert made.rows("n").count(None) == 5
    assert made.column("n").nullable


def test_imputed_values_are_the_median_of_training(tmp_path: Path) -> None:
    rows = [(None if i % 5 == 0 else float(i), "ab"[i % 2]) for i in range(1, 101)]
    table = pa.table({"x": [x for x, _ in rows], "z": [i / 3 for i in range(100)], "y": [y for _, y in rows]})
    kept = clean(tmp_path / "kept", {"t.parquet": table}, target="y", features=["z", "x"])
    made = clean(
        tmp_path / "made", {"t.parquet": table}, target="y", columns={"x": {"on_null": "impute"}}, features=["z", "x"]
    )
    train = sorted(x for x in kept.splits["train"]["x"].to_pylist() if x is not None)
    middle = len(train) // 2
    median = train[middle] if len(train) % 2 else (train[middle - 1] + train[middle]) / 2
    assert made.profile["imputed"] == {"x": median}
    assert not made.column("x").nullable
    assert made.rows("x").count(median) - kept.rows("x").count(median) == kept.rows("x").count(None)


def test_a_given_vocabulary_keeps_its_order_and_refuses_others(tmp_path: Path) -> None:
    rows = [(("S", "M", "L", "XXL")[i % 4], i / 3, i / 7) for i in range(60)]
    columns = {"size": {"vocabulary": ["S", "M", "L"]}}
    made = clean(tmp_path, {"t.csv": csv_of(rows, header=["size", "x", "y"])}, target="y", columns=columns)
    assert made.column("size").vocabulary == ("S", "M", "L")
    assert made.profile["unparseable"] == {"size": 15}


def test_semicolons_tabs_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    rows = [(i, i / 3, "ab"[i % 2]) for i in range(30)]
    plain = csv_of(rows, header=["n", "x", "y"])
    for path, content in (
        ("t.csv", plain.replace(b",", b";")),
        ("t.tsv", plain.replace(b",", b"\t")),
        ("t.csv", b"\xef\xbb\xbf" + plain),
    ):
        made = clean(tmp_path, {path: content}, target="y")
        assert made.splits["train"].column_names == ["row_id", "n", "x", "y"]


def test_quotes_hold_delimiters_lines_and_quotes(tmp_path: Path) -> None:
    lines = "".join(f'"said ""{i}"",\nand left",5" nail,{"ab"[i % 2]}\n' for i in range(30))
    made = clean(tmp_path, {"t.csv": ("t,u,y\n" + lines).encode()}, target="y", columns={"t": {"type": "text"}})
    assert sorted(made.rows("t"))[0] == 'said "0",\nand left'
    assert set(made.rows("u")) == {'5" nail'}


def test_other_encodings_are_read(tmp_path: Path) -> None:
    rows = [(f"grün {i}", i / 3, "ab"[i % 2]) for i in range(30)]
    content = csv_of(rows, header=["t", "x", "y"]).decode()
    for encoding in ("latin-1", "utf-16"):
        made = clean(
            tmp_path,
            {"t.csv": content.encode(encoding)},
            target="y",
            encoding=encoding,
            columns={"t": {"type": "text"}},
        )
        assert sorted(made.rows("t"))[0] == "grün 0"


def test_mixed_json_values_are_repaired_and_absent_keys_are_null(tmp_path: Path) -> None:
    lines = [f'{{"n": {i}, "x": {i / 3}, "y": "{"ab"[i % 2]}"}}' for i in range(60)]
    lines[3] = '{"n": "3", "x": 1.5, "y": "b"}'
    lines[4] = '{"n": {"deep": 1}, "y": "a", "late": 1}'
    made = clean(tmp_path, {"t.jsonl": "\n".join(lines).encode()}, target="y")
    by_id = dict(zip(made.rows("row_id"), made.rows("n"), strict=True))
    numbers = {int(i.rpartition("-")[2]): n for i, n in by_id.items()}
    assert (numbers[3], numbers[4], numbers[5]) == (3, None, 5)
    assert made.rows("late").count(None) == 59


@pytest.mark.parametrize("bytes_per_task", [64 * 2**20, 300])
def test_a_column_that_is_dropped_is_in_no_part_of_the_data_set(tmp_path: Path, bytes_per_task: int) -> None:
    rows = csv_of([(i, f"secret-{i}", i % 3) for i in range(60)], header=["n", "note", "y"])
    made = clean(tmp_path, {"t.csv": rows}, drop="note", target="y", bytes_per_task=bytes_per_task)
    assert [column.name for column in made.meta.schema_.columns] == ["n", "y"]
    assert sorted(made.rows("n")) == list(range(60))
    assert "note" not in made.splits["train"].column_names
    assert "secret" not in str(made.profile)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"drop": "x", "target": "x"}, "drop: 'x' is used elsewhere"),
        ({"drop": ["x"], "split": {"by": "x"}}, "drop: 'x' is used elsewhere"),
        ({"drop": ["othr"]}, "no column 'othr'; did you mean 'other'"),
        ({"drop": ["x", "other"]}, "Every column is dropped"),
        ({"drop": "x", "steps": [{"step": "length", "column": "x", "min_chars": 1}]}, "no column 'x'"),
    ],
)
def test_a_column_that_cannot_be_dropped_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises((errors.InvalidData, ValueError), match=says):
        inferred(["a", "b"] * 20, **config)
