"""What comes out of the rounds depends on the rows alone: not on how the work was cut, who did it when, or how often."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cleaning_runs import Cleaned, clean, csv_of
from millrace import errors
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.settings import CleanConfig

WORDS = (
    *("river", "stone", "lamp", "quiet", "under", "before", "winter", "bread", "long", "paper", "chair", "open"),
    *("glass", "seven", "walk", "letter", "blue", "north"),
)


def text(seed: int, num_words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def edited(seed: int) -> str:
    """A text that differs from text(seed) in its last word."""
    return text(seed).rsplit(" ", 1)[0] + " changed"


def corpus() -> dict[str, pa.Table]:
    """Two files of texts with numbers: some repeat, some nearly, some lack a label, some numbers are none."""
    texts = [text(i) for i in range(200)] + [text(i) for i in range(20)] + [edited(i) for i in range(30, 60)]
    numbers = [None if i % 9 == 0 else "x" if i % 31 == 0 else str(i) for i in (*range(200), *range(50))]
    labels = [None if i % 40 == 7 else "ab"[i % 2] for i in range(len(texts))]
    table = pa.table({"text": texts, "n": numbers, "y": labels})
    return {"a.parquet": table.slice(0, 130), "b.parquet": table.slice(130)}


EVERYTHING: dict[str, Any] = {
    "target": "y", "features": ["text", "n"], "rows_per_shard": 40, "near_dedup": {"column": "text"},
    "columns": {"text": {"type": "text"}, "n": {"type": "integer", "on_null": "impute"}},
    "steps": [{"step": "check_table", "columns": {"text": {"min_length": 346, "on_broken": "remove"}}}],
    "expect": [{"rows": {"min": 100}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Cleaned:
    return clean(tmp_path_factory.mktemp("whole"), corpus(), **EVERYTHING)


@pytest.mark.parametrize(("bytes_per_task", "disorder"), [(200, 1), (4000, None), (15_000, 2)])
def test_the_bytes_do_not_depend_on_the_cut_the_order_or_repetition(
    tmp_path: Path, whole: Cleaned, bytes_per_task: int, disorder: int | None
) -> None:
    made = clean(tmp_path, corpus(), disorder=disorder, bytes_per_task=bytes_per_task, **EVERYTHING)
    assert (whole.num_tasks, made.num_tasks > 3) == (1, True)
    assert made.ref.digest == whole.ref.digest


def test_every_row_that_went_is_in_the_account(whole: Cleaned) -> None:
    removed = [e for e in whole.account.to_pylist() if e["action"] == "removed"]
    went = {e["row_id"] for e in removed}
    assert whole.profile["rows_in"] == 250
    assert len(went) == len(removed) == 250 - whole.summary["rows_out"] == sum(whole.profile["removed"].values())
    assert not went & set(whole.rows("row_id"))
    assert {e["step"] for e in removed} == {"repair", "check_table", "dedup", "near_dedup"}


def test_an_entry_names_the_file_and_the_row_in_it(whole: Cleaned) -> None:
    labels = {path: table["y"].to_pylist() for path, table in corpus().items()}
    entries = [e for e in whole.account.to_pylist() if e["rule"] == "null"]
    assert entries
    assert all(labels[e["file"]][e["row"] - 1] is None for e in entries)
    duplicates = [e for e in whole.account.to_pylist() if e["rule"] == "duplicate"]
    texts = {path: table["text"].to_pylist() for path, table in corpus().items()}
    everything = texts["a.parquet"] + texts["b.parquet"]
    for entry in duplicates:
        first = int(entry["detail"].rpartition("-")[2])
        assert everything[first] == texts[entry["file"]][entry["row"] - 1]


def test_changed_values_are_in_the_account(whole: Cleaned) -> None:
    changed = [e for e in whole.account.to_pylist() if e["action"] == "changed"]
    assert {(e["rule"], e["column"]) for e in changed} == {("unparseable", "n"), ("imputed", "n")}
    assert sum(e["rule"] == "unparseable" for e in changed) == whole.profile["unparseable"]["n"]


def test_the_account_can_be_of_removed_rows_alone(tmp_path: Path, whole: Cleaned) -> None:
    made = clean(tmp_path, corpus(), **EVERYTHING, account="removed")
    assert set(made.account["action"].to_pylist()) == {"removed"}
    assert made.profile["rules"] == whole.profile["rules"]


def test_the_profile_counts_rows_through_each_step(whole: Cleaned) -> None:
    (step,) = whole.profile["steps"]
    assert step["step"] == "check_table"
    assert step["rows_in"] == 250 - whole.profile["removed"]["null_y"]
    assert step["rows_in"] - step["rows_out"] == whole.profile["removed"]["check_table.min_length"]
    assert step["bytes_out"] < step["bytes_in"]


def test_near_duplicates_go_and_the_account_says_how_near(whole: Cleaned) -> None:
    near = [e for e in whole.account.to_pylist() if e["rule"] == "near_duplicate"]
    assert len(near) == whole.profile["removed"]["near_duplicate"] > 15
    assert all(0.8 <= e["value"] < 1 and e["limit"] == 0.8 for e in near)


def test_near_duplicates_that_stay_share_a_split(tmp_path: Path) -> None:
    table = pa.table({"text": [text(i) for i in range(60)] + [edited(i) for i in range(60)], "n": range(120)})
    made = clean(tmp_path, {"t.parquet": table}, features="text", near_dedup={"drop": False})
    split_of = made.split_of("text")
    assert len(split_of) == 120
    assert all(split_of[text(i)] == split_of[edited(i)] for i in range(60))
    assert made.profile["removed"] == {}


def test_without_near_dedup_they_leak(tmp_path: Path) -> None:
    table = pa.table({"text": [text(i) for i in range(60)] + [edited(i) for i in range(60)], "n": range(120)})
    split_of = clean(tmp_path, {"t.parquet": table}, features="text").split_of("text")
    assert any(split_of[text(i)] != split_of[edited(i)] for i in range(60))


def test_broken_expectations_are_all_named(tmp_path: Path) -> None:
    table = pa.table({"age": [20.0 + i for i in range(90)] + [None] * 10, "y": list("ab") * 50})
    expect = [
        {"rows": {"min": 1000}}, {"removed": {"max": 0.5}}, {"column": "age", "nulls": {"max": 0.05}, "max": 100},
        {"column": "y", "distinct": {"min": 2, "max": 2}}, {"column": "age", "mean": {"min": 10, "max": 70}, "min": 20},
        {"column": "aeg", "min": 0},
    ]  # fmt: skip
    with pytest.raises(errors.InvalidData) as caught:
        clean(tmp_path, {"t.parquet": table}, target="y", dedup=False, expect=expect)
    assert caught.value.context["broken"] == [
        "rows: expected at least 1000, found 100", "the share of nulls in 'age': expected at most 0.05, found 0.1",
        "max of 'age': expected at most 100, found 109", "there is no column 'aeg' (did you mean 'age'? Valid: age, y)",
    ]  # fmt: skip


@pytest.mark.parametrize("bytes_per_task", [64 * 2**20, 400])
def test_rows_that_repeat_another_are_counted_over_all_parts(tmp_path: Path, bytes_per_task: int) -> None:
    rows = [(i % 90, i % 7, f"row {i}") for i in range(100)]
    table = csv_of([*rows, ("", 1, "a null"), ("", 1, "another")], header=["user", "day", "text"])
    expect = [{"unique": "user"}, {"unique": ["user", "day"]}, {"unique": "text"}]
    with pytest.raises(errors.InvalidData) as caught:
        clean(tmp_path, {"t.csv": table}, features="text", expect=expect, bytes_per_task=bytes_per_task, disorder=3)
    assert caught.value.context["broken"] == ["user: 10 rows repeat another, such as t.csv:91, which repeats t.csv:1"]
    assert caught.value.field == "with.expect.0"


def test_what_is_unique_is_asked_of_the_rows_that_stay(tmp_path: Path) -> None:
    table = pa.table({"key": [i % 30 for i in range(60)], "text": [f"text {i % 30}" for i in range(60)]})
    made = clean(tmp_path, {"t.parquet": table}, features=["key", "text"], dedup=True, expect=[{"unique": "key"}])
    assert made.profile["repeats"] == [{"expectation": 0, "columns": ["key"], "rows": 0, "example": ""}]
    with pytest.raises(errors.InvalidData, match="no column 'kye'; did you mean 'key'") as caught:
        clean(tmp_path, {"t.parquet": table}, expect=[{"unique": "kye"}])
    assert caught.value.field == "with.expect.0.unique"


@pytest.mark.parametrize(
    ("expectation", "says"),
    [
        ({}, "give rows, removed, unique, or a column"),
        ({"min": 3}, "say of which column, as in `{column: age, min: 0}`"),
        ({"column": "x"}, "say what is expected of 'x'"),
        ({"rows": {}}, "give min, max or both"),
        ({"rows": {"min": 3, "max": 2}}, "min 3 is above max 2"),
        ({"rows": 100}, "expected bounds, as in `{rows: {min: 10000}}`; found 100"),
        ({"column": "x", "nulls": 0}, "as in `{column: age, nulls: {max: 0.05}}`; found 0"),
        ({"column": "x", "min": "low"}, "expected a number, as in `{column: age, min: 0}`, or bounds; found 'low'"),
        ({"unique": True}, "expected columns, as in `{unique: [user, day]}`; found True"),
        ("removed < 0.1", "expected a mapping such as `{removed: {max: 0.2}}`; found 'removed < 0.1'"),
    ],
)
def test_an_expectation_that_misses_the_form_is_shown_it(expectation: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        CleanConfig.model_validate({"expect": [expectation]})


def test_expectations_that_are_no_list_are_shown_one() -> None:
    with pytest.raises(
        ValueError, match=re.escape("expected a list, as in `[{rows: {min: 10000}}]`; found {'rows': 1}")
    ):
        CleanConfig.model_validate({"expect": {"rows": 1}})


def test_near_duplicates_can_be_switched_like_duplicates() -> None:
    switched = [CleanConfig.model_validate({"near_dedup": value}).near_dedup for value in (True, False, None)]
    assert switched == [NearDedupConfig(), None, None]
    with pytest.raises(ValueError, match=r"expected true, false, or settings such as `\{threshold: 0.8\}`, found 0.9"):
        CleanConfig.model_validate({"near_dedup": 0.9})


def test_near_duplicates_that_stay_need_a_random_split() -> None:
    with pytest.raises(ValueError, match="only where it is random"):
        CleanConfig.model_validate({"near_dedup": {"drop": False}, "split": {"time": "day"}})


@pytest.mark.parametrize("bytes_per_task", [64 * 2**20, 200])
def test_bad_rows_are_held_with_their_place_and_the_others_keep_theirs(tmp_path: Path, bytes_per_task: int) -> None:
    rows = [(i, i / 3, "ab"[i % 2]) for i in range(60)]
    lines = csv_of(rows, header=["n", "x", "y"]).splitlines(keepends=True)
    lines[11] = b"one,two\n"  # the eleventh row
    made = clean(
        tmp_path, {"t.csv": b"".join(lines)}, target="y", on_bad_row="quarantine", bytes_per_task=bytes_per_task,
        columns={"n": {"role": "ignore"}},
    )  # fmt: skip
    (held,) = made.quarantine.to_pylist()
    assert (held["path"], held["row"], held["raw"].strip()) == ("t.csv", 11, b"one,two")
    assert (made.profile["rows_in"], made.summary["rows_out"]) == (60, 59)
    assert sum(made.profile["unread"]["rows"].values()) == 1
    ordinals = {int(i.rpartition("-")[2]): n for i, n in zip(made.rows("row_id"), made.rows("n"), strict=True)}
    assert ordinals == {i: i for i in range(60) if i != 10}


def test_rows_that_are_files_are_named_by_their_own_file(tmp_path: Path) -> None:
    files: dict[str, bytes | pa.Table] = {f"{i:02d}.txt": f"text number {i % 20}".encode() for i in range(30)}
    made = clean(tmp_path, files, columns={"text": {"type": "text", "role": "feature"}}, dedup=True)
    went = [(e["file"], e["row"]) for e in made.account.to_pylist() if e["rule"] == "duplicate"]
    assert went == [(f"{i:02d}.txt", 1) for i in range(20, 30)]
