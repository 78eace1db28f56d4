"""Recipes: what may be asked, on which columns steps work, and that every touched row is accounted for once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cleaning_runs import clean, csv_of
from millrace import errors
from millrace.contracts.loading import validate
from millrace.contracts.schema import ColumnType, Role
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.sizes import row_bytes
from millrace_cleaning.steps.findings import Memo, Scratch
from millrace_cleaning.steps.recipe import Ran, labels, load, resolve, run

COLUMNS: dict[str, tuple[ColumnType, Role]] = {
    "text": ("text", "feature"), "n": ("integer", "feature"), "y": ("category", "target"),
}  # fmt: skip
SHORT = {"step": "length", "min_chars": 3}
LONG = {"step": "length", "max_chars": 5}
REPAIR = {"step": "repair_text"}
POSITIVE = {"step": "check_table", "columns": {"n": {"ge": 0}}}


def recipe(*steps: dict[str, Any]) -> CleanConfig:
    return CleanConfig.model_validate({"steps": steps})


def ran(batch: pa.RecordBatch, *steps: dict[str, Any], keep: Sequence[bool] | None = None) -> Ran:
    """What is left of a batch with the columns text and n."""
    resolved, _ = resolve(recipe(*steps).steps, COLUMNS)
    kept = np.array([True] * batch.num_rows if keep is None else keep, dtype=np.bool_)
    return run(batch, load(resolved), keep=kept, scratch=Scratch())


def said(found: Ran) -> list[tuple[str, int, str]]:
    """Label, row and rule of each finding."""
    return [
        (label, row, rule)
        for label, table in found.findings
        for row, rule in zip(table["row"].to_pylist(), table["rule"].to_pylist(), strict=True)
    ]


BATCH = pa.record_batch({"text": ["a", "four", "much too long", "five5"], "n": [1, 2, -3, -4]})


def test_rows_that_steps_remove_are_gone_and_named_by_the_first_that_did() -> None:
    found = ran(BATCH, SHORT, LONG, POSITIVE)
    assert found.batch.column("text").to_pylist() == ["four"]
    assert found.rows.tolist() == [1]
    assert [(label, row) for label, row, _ in said(found)] == [("length", 0), ("length_2", 2), ("check_table", 3)]


def test_what_a_later_step_says_of_a_removed_row_is_not_heard() -> None:
    assert [row for _, row, _ in said(ran(BATCH, LONG, LONG))] == [2]
    assert [row for _, row, _ in said(ran(BATCH, LONG, REPAIR, LONG))] == [2]


def test_rows_that_were_gone_before_the_recipe_are_not_judged() -> None:
    found = ran(BATCH, SHORT, keep=[False, True, True, False])
    assert said(found) == []
    assert found.rows.tolist() == [1, 2]


def test_positions_are_of_the_batch_that_was_given_though_rows_were_taken_out() -> None:
    found = ran(BATCH, SHORT, REPAIR, POSITIVE)
    assert [row for label, row, _ in said(found) if label == "check_table"] == [2, 3]
    assert found.rows.tolist() == [1]


def test_the_flow_through_each_step_adds_up() -> None:
    flow = ran(BATCH, SHORT, POSITIVE).flow
    assert [(f.rows_in, f.rows_out) for f in flow.values()] == [(4, 3), (3, 1)]
    assert flow["length"].bytes_in == sum(map(len, BATCH["text"].to_pylist())) + 4 * 8
    assert flow["length"].bytes_out == flow["check_table"].bytes_in == flow["length"].bytes_in - 9


def test_a_row_that_a_step_touched_in_two_columns_is_counted_once(tmp_path: Path) -> None:
    csv = csv_of([(f"{i}.5", -i, -i) for i in range(40)], header=["f", "a", "b"])
    bounds = {"a": {"ge": 0}, "b": {"ge": 0}}
    made = clean(tmp_path, {"a.csv": csv}, steps=[{"step": "check_table", "columns": bounds, "on_broken": "flag"}])
    assert made.account.num_rows == 78
    assert [(s["flagged"], s["changed"], s["removed"]) for s in made.profile["steps"]] == [(39, 0, 0)]
    assert [(r["rule"], r["count"]) for r in made.profile["rules"]] == [("ge", 39)]


def test_a_step_that_appends_a_column_does_so_when_no_row_is_left() -> None:
    nothing = ran(BATCH, {"step": "length", "min_chars": 99}, {"step": "convert_units", "column": "text", "unit": "kg"})
    assert nothing.batch.num_rows == 0
    assert nothing.batch.schema.names == ["text", "n", "text_kg"]


@given(st.lists(st.text(max_size=8), max_size=30), st.lists(st.sampled_from([0, 1, 2]), max_size=4))
def test_rows_that_stay_and_rows_that_went_are_all_rows(texts: list[str], chosen: list[int]) -> None:
    batch = pa.record_batch({"text": pa.array(texts, pa.string()), "n": pa.array(range(len(texts)), pa.int64())})
    found = ran(batch, *[(SHORT, LONG, POSITIVE)[i] for i in chosen])
    went = [row for _, row, _ in said(found)]
    assert sorted([*went, *found.rows.tolist()]) == list(range(len(texts)))
    assert found.batch.column("n").to_pylist() == found.rows.tolist()


def test_steps_of_a_kind_are_told_apart_by_number() -> None:
    assert labels(recipe(SHORT, REPAIR, LONG, LONG).steps) == ["length", "repair_text", "length_2", "length_3"]


@pytest.mark.parametrize(
    ("step", "field", "says"),
    [
        ({"step": "gopher_qualty"}, "steps.0", "no step 'gopher_qualty'; did you mean 'gopher_quality'"),
        ({"setp": "length"}, "steps.0", "`step` is missing"),
        (
            {"step": "outliers", "fences": {"age": {"lo": 1}}},
            "steps.0.fences.age.lo",
            "Unknown field 'lo'; did you mean 'low'? Valid: high, low.",
        ),
        ({"step": "length", "min_char": 3}, "steps.0", "length has no field 'min_char'; did you mean 'min_chars'"),
        ({"step": "length", "min_chars": "many"}, "steps.0.min_chars", "whole number"),
        ("length", "steps.0", "expected a step such as"),
    ],
)
def test_a_step_that_is_no_step_is_refused_at_submit(step: Any, field: str, says: str) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        validate(CleanConfig, {"steps": [step]})
    assert caught.value.field == field
    assert says.lower() in str(caught.value).lower()


def test_a_recipe_survives_json() -> None:
    config = recipe(SHORT, REPAIR, POSITIVE)
    assert CleanConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("step", "field", "says"),
    [
        ({**SHORT, "column": "txt"}, "with.steps.1.column", "no column 'txt'; did you mean 'text'"),
        ({**SHORT, "column": "n"}, "with.steps.1.column", "'n' is of type integer"),
        ({"step": "check_images"}, "with.steps.1.column", "No column is of type image."),
        (
            {"step": "convert_units", "column": "text", "unit": "kg", "into": "n"},
            "with.steps.1",
            "there is one of this",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_its_field(step: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(errors.InvalidData) as caught:
        resolve(recipe(SHORT, step).steps, COLUMNS)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_of_several_columns_the_only_feature_is_meant() -> None:
    columns: dict[str, tuple[ColumnType, Role]] = {"url": ("text", "ignore"), **COLUMNS}
    assert resolve(recipe(SHORT).steps, columns)[0][0].column == "text"
    with pytest.raises(errors.InvalidData, match="Say which column: 2 are of type text: url, text"):
        resolve(recipe(SHORT).steps, {**columns, "url": ("text", "feature")})


def test_a_step_whose_extra_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "millrace_cleaning.steps.pii.step", raising=False)
    for name in [name for name in sys.modules if name.startswith(("phonenumbers", "millrace_cleaning.steps.pii"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(errors.StageFailed, match=r"pip install 'millrace\[pii\]'") as caught:
        load(recipe(SHORT, {"step": "pii", "column": "text"}).steps)
    assert caught.value.field == "with.steps.1"


def test_the_memo_computes_once_for_the_same_memory_and_anew_for_other() -> None:
    memo, calls = Memo(), []

    def compute(array: pa.Array) -> int:
        calls.append(array)
        return len(array)

    assert [memo.get("size", BATCH.column("text"), compute) for _ in range(3)] == [4, 4, 4]
    assert memo.get("size", BATCH.column("text").slice(1), compute) == 3
    assert len(calls) == 2
    memo.forget([BATCH.column("n")])
    memo.get("size", BATCH.column("text"), compute)
    assert len(calls) == 3


def test_the_bytes_of_rows_do_not_depend_on_what_a_batch_shares() -> None:
    batch = pa.record_batch(
        {
            "t": ["é", None, "abc"], "i": [1, None, 3], "v": pa.array([[1.0], [2.0, 3.0], None], pa.list_(pa.float32())),
            "b": pa.array([{"bytes": b"12345", "path": "x"}, None, {"bytes": b"", "path": None}]),
        }
    )  # fmt: skip
    assert row_bytes(batch).tolist() == [2 + 8 + 4 + 6, 8 + 8, 3 + 8]
    assert row_bytes(batch.slice(1)).tolist() == row_bytes(batch).tolist()[1:]


def test_a_recipe_that_removes_all_says_which_rules_did(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text number {i}" for i in range(20)], "n": range(20)})
    with pytest.raises(errors.InvalidData, match=r"No row is left: length\.\w+ \(20\)"):
        clean(tmp_path, {"t.parquet": table}, steps=[{"step": "length", "column": "text", "min_chars": 999}])


def test_a_column_that_a_step_of_texts_names_is_a_text(tmp_path: Path) -> None:
    table = pa.table({"text": ["red", "green", "blue", "grey"] * 10, "n": range(40)})
    made = clean(tmp_path, {"t.parquet": table}, steps=[{"step": "length", "column": "text", "max_chars": 4}])
    assert made.column("text").type == "text"
    assert set(made.rows("text")) == {"red", "blue", "grey"}
    assert made.profile["removed"] == {"length.max_chars": 10}


def test_columns_that_steps_append_are_in_the_schema_and_the_rows(tmp_path: Path) -> None:
    table = pa.table({"weight": [f"{i} kg and some words" if i % 7 else f"{i} kg" for i in range(40)], "x": range(40)})
    made = clean(
        tmp_path, {"t.parquet": table}, features=["x", "weight"], columns={"weight": {"type": "text"}},
        steps=[{"step": "convert_units", "column": "weight", "unit": "g"}],
    )  # fmt: skip
    added = made.column("weight_g")
    assert (added.type, added.role, added.unit) == ("number", "feature", "g")
    assert sorted(v for v in made.rows("weight_g") if v is not None)[:2] == [0.0, 7000.0]


def test_validation_accepts_a_recipe_of_many_kinds() -> None:
    with pytest.raises(ValidationError, match="at most 200 items"):
        recipe(*[SHORT] * 201)
