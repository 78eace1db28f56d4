"""Steps over tables: constraints, outliers, spellings and units."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleaning_runs import clean, csv_of
from millrace import errors
from millrace_cleaning.confidence import Inference
from millrace_cleaning.infer import make_plan
from millrace_cleaning.scan import scan_batches
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.sketch import MAX_BINS, NumberSketch
from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.table import checking, outliers, quantities, spelling
from millrace_cleaning.steps.table.settings import CheckTable, ConvertUnits, MapValues, Outliers

FLOATS = pa.float64()
COLUMNS: Any = {
    "age": ("integer", "feature"), "weight": ("number", "feature"), "name": ("text", "feature"),
    "start": ("timestamp", "feature"), "end": ("timestamp", "feature"), "ok": ("boolean", "feature"),
}  # fmt: skip


def checked(batch: pa.RecordBatch, **config: Any) -> Outcome:
    return checking.apply(batch, CheckTable.model_validate({"step": "check_table", **config}), Scratch())


def found(outcome: Outcome) -> list[tuple[Any, ...]]:
    return [
        tuple(f[k] for k in ("row", "action", "rule", "column", "value", "limit"))
        for f in outcome.findings.table().to_pylist()
    ]


def ages(*values: int | None) -> pa.RecordBatch:
    return pa.record_batch({"age": pa.array(values, pa.int64())})


def test_a_broken_rule_is_said_with_value_and_limit() -> None:
    outcome = checked(ages(5, -1, None, 130), columns={"age": {"ge": 0, "lt": 130}})
    assert found(outcome) == [(1, "removed", "ge", "age", -1, 0), (3, "removed", "lt", "age", 130, 130)]


def test_a_null_breaks_not_null_alone() -> None:
    rules = {"ge": 0, "isin": [1], "not_null": True}
    assert found(checked(ages(None, 1), columns={"age": rules})) == [(0, "removed", "not_null", "age", None, None)]


def test_policies_flag_nullify_and_fail() -> None:
    assert found(checked(ages(-1), columns={"age": {"ge": 0, "on_broken": "flag"}}))[0][1] == "flagged"
    outcome = checked(ages(-1, 3), columns={"age": {"ge": 0}}, on_broken="nullify")
    assert outcome.batch["age"].to_pylist() == [None, 3]
    assert found(outcome) == [(0, "changed", "ge", "age", -1, 0)]
    with pytest.raises(errors.InvalidData, match="'age' breaks the constraint ge 0, as do 1 of the rows") as refused:
        checked(ages(3, -1, -2), columns={"age": {"ge": 0, "on_broken": "fail"}})
    assert refused.value.context["row"] == 1


_RULES = st.fixed_dictionaries(
    {}, optional={k: st.integers(-3, 3) for k in ("ge", "gt", "le", "lt")} | {"isin": st.lists(st.integers(-3, 3), min_size=1)},
).filter(bool)  # fmt: skip


@given(st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=20), _RULES)
@settings(deadline=None, max_examples=60)
def test_number_rules_agree_with_plain_python(values: list[int | None], rules: dict[str, Any]) -> None:
    keeps: dict[str, Callable[[Any, Any], bool]] = {
        "ge": lambda v, b: v >= b, "gt": lambda v, b: v > b, "le": lambda v, b: v <= b, "lt": lambda v, b: v < b,
        "isin": lambda v, b: v in b,
    }  # fmt: skip
    expected = {
        (row, rule)
        for rule, bound in rules.items()
        for row, value in enumerate(values)
        if value is not None and not keeps[rule](value, bound)
    }
    assert {(row, rule) for row, _, rule, *_ in found(checked(ages(*values), columns={"age": rules}))} == expected


@given(
    st.lists(st.text("ab1-\n", max_size=6), min_size=1, max_size=20), st.sampled_from(["a+", "a|b", "[ab]*1?", "-.b"])
)
@settings(deadline=None, max_examples=60)
def test_a_regex_matches_the_whole_text(values: list[str], regex: str) -> None:
    batch = pa.record_batch({"name": pa.array(values)})
    broken = {row for row, *_ in found(checked(batch, columns={"name": {"regex": regex}}))}
    assert broken == {row for row, value in enumerate(values) if not re.fullmatch(regex, value)}


def test_texts_have_lengths_and_timestamps_have_bounds() -> None:
    batch = pa.record_batch({"name": ["a", "äöüß", None]})
    assert found(checked(batch, columns={"name": {"min_length": 2, "max_length": 3}})) == [
        (0, "removed", "min_length", "name", 1, 2), (1, "removed", "max_length", "name", 4, 3),
    ]  # fmt: skip
    moments = pa.array([datetime(1999, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    outcome = checked(pa.record_batch({"start": moments}), columns={"start": {"ge": "2000-01-01"}})
    assert found(outcome) == [(0, "removed", "ge", "start", 915_148_800, 946_684_800)]


def test_two_columns_of_a_row_are_compared() -> None:
    batch = pa.record_batch({"a b": [1, 5, None], "c": [2.0, 4.5, 1.0]})
    assert found(checked(batch, rows=["`a b` <= c"])) == [(1, "removed", "a b <= c", "a b", 0.5, 0)]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"columns": {"aeg": {"ge": 0}}}, "columns.aeg"),
        ({"columns": {"age": {"ge": "old"}}}, "columns.age.ge"),
        ({"columns": {"age": {"isin": [1.5]}}}, "columns.age.isin"),
        ({"columns": {"weight": {"regex": "a"}}}, "columns.weight.regex"),
        ({"columns": {"start": {"le": "tomorrow"}}}, "columns.start.le"),
        ({"columns": {"ok": {"ge": 0}}}, "columns.ok.ge"),
        ({"rows": ["age <= start"]}, "rows"),
        ({"rows": ["age <= agee"]}, "rows"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_with_its_place(config: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidData) as refused:
        CheckTable.model_validate({"step": "check_table", **config}).resolved(COLUMNS)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "config", [{}, {"columns": {"age": {}}}, {"rows": ["start before end"]}, {"columns": {"name": {"regex": "("}}}]
)
def test_a_check_that_says_nothing_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give|expected|no rule|no regular"):
        CheckTable.model_validate({"step": "check_table", **config})


def test_what_only_re2_refuses_is_refused_with_its_field() -> None:
    with pytest.raises(errors.InvalidData, match="RE2") as refused:
        checked(pa.record_batch({"name": ["a"]}), columns={"name": {"regex": "(?=a)a"}})
    assert refused.value.field == "columns.name.regex"


def fenced(values: list[float | None], action: str, *, type_: pa.DataType = FLOATS) -> Outcome:
    config = Outliers.model_validate(
        {"step": "outliers", "fences": {"x": {"low": -1.5, "high": 10.5}}, "action": action}
    ).resolved({"x": ("number", "feature")})
    return outliers.apply(pa.record_batch({"x": pa.array(values, type_)}), config, Scratch())


def test_outliers_are_flagged_removed_clipped_or_nullified() -> None:
    values = [0.0, -7.0, None, 99.0]
    flagged = [(1, "flagged", "low", "x", -7, -1.5), (3, "flagged", "high", "x", 99, 10.5)]
    assert found(fenced(values, "flag")) == flagged
    assert fenced(values, "remove").findings.removed(4).tolist() == [False, True, False, True]
    assert fenced(values, "clip").batch["x"].to_pylist() == [0.0, -1.5, None, 10.5]
    assert fenced(values, "nullify").batch["x"].to_pylist() == [0.0, None, None, None]


def test_clipped_integers_are_integers_within_the_fences() -> None:
    assert fenced([0, -7, None, 99], "clip", type_=pa.int64()).batch["x"].to_pylist() == [0, -1, None, 10]


def informed(numbers: npt.ArrayLike, **config: Any) -> dict[str, tuple[float, float]]:
    sketch = NumberSketch()
    sketch.add(np.array(numbers, dtype=np.float64))
    step = Outliers.model_validate({"step": "outliers", **config})
    fences = step.resolved({"x": ("number", "feature"), "name": ("text", "feature")}).informed({"x": sketch}).fences
    return {name: (fence.low, fence.high) for name, fence in fences.items()}


def test_fences_are_found_by_the_method_asked_for() -> None:
    numbers = np.random.default_rng(5).normal(50, 3, 1000)
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    deviation = np.median(np.abs(numbers - middle)) / 0.6745
    assert informed(numbers)["x"] == pytest.approx((low - 3 * (high - low), high + 3 * (high - low)), rel=1e-6)
    assert informed(numbers, method="mad")["x"] == pytest.approx((middle - 3.5 * deviation, middle + 3.5 * deviation))
    spread = 2 * numbers.std()
    assert informed(numbers, method="z", k=2)["x"] == pytest.approx((numbers.mean() - spread, numbers.mean() + spread))


def test_a_column_without_spread_has_no_outliers_and_a_text_cannot() -> None:
    assert informed([7.0] * 50) == {}
    assert informed([1e308, -1e308] * 9, method="z") == {}
    with pytest.raises(errors.InvalidData, match="'name' is of type text"):
        informed([1.0], columns=["name"])


_FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.lists(_FLOATS | st.integers(-9, 9).map(float), max_size=30), min_size=1, max_size=6),
    st.permutations(range(6)),
)
@settings(deadline=None, max_examples=80)
def test_a_sketch_of_few_numbers_is_exact_whatever_parts_they_come_in(
    parts: list[list[float]], order: list[int]
) -> None:
    whole = [number for part in parts for number in part]
    merged = NumberSketch()
    for i in order:
        if i < len(parts):
            part = NumberSketch()
            part.add(np.array(parts[i], dtype=np.float64))
            merged.merge(NumberSketch.from_json(json.loads(json.dumps(part.to_json()))))
    assert merged.count == len(whole)
    if whole:
        assert merged.quantile(0) == min(whole)
        assert merged.quantile(1) == max(whole)
        assert merged.quantile(0.5) == pytest.approx(float(np.median(np.array(whole) / 4)) * 4, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_sketch_of_many_numbers_is_near_and_the_same_whatever_parts_they_come_in(scale: float) -> None:
    numbers = np.random.default_rng(6).normal(0, scale, 30_000)
    sketches = []
    for sizes in ([30_000], [1, 8_192, 21_807]):
        merged = NumberSketch()
        for part in np.split(numbers if len(sizes) > 1 else numbers[::-1], np.cumsum(sizes)[:-1]):
            other = NumberSketch()
            other.add(part)
            merged.merge(other)
        sketches.append(merged)
    assert sketches[0] == sketches[1]
    assert len(sketches[0].bins) <= MAX_BINS
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert sketches[0].quantile(share) == pytest.approx(np.quantile(numbers, share), rel=0.06, abs=0.01 * scale)


def test_numbers_far_from_zero_and_near_each_other_are_told_apart() -> None:
    moments = 1.7e9 + np.random.default_rng(7).integers(0, 100_000, 20_000).astype(np.float64)
    sketch = NumberSketch()
    sketch.add(moments)
    assert sketch.quantile(0.25) == pytest.approx(np.quantile(moments, 0.25), abs=300)


def confidence_of(values: list[Any], **config: Any) -> tuple[Inference | None, tuple[str, ...]]:
    batch = pa.record_batch({"x": pa.array(values), "other": pa.array([i / 3 for i in range(len(values))])})
    scans, _ = scan_batches([batch], null_values=("",))
    plan = make_plan(scans, config=CleanConfig.model_validate(config))
    return plan.columns[0].inferred, plan.warnings


def test_a_clear_type_is_sure_and_says_what_it_is_based_on() -> None:
    found, warnings = confidence_of([str(i) for i in range(98)] + ["a", ""])
    assert found is not None
    assert (found.confidence, found.runner_up, found.kinds) == (0.9899, "text", {"integer": 98, "string": 1})
    assert warnings == ()


def test_a_doubtful_type_is_warned_of_with_its_runner_up() -> None:
    found, warnings = confidence_of([str(i) for i in range(80)] + [f"unknown{i}" for i in range(20)])
    assert found is not None
    assert (found.confidence, found.runner_up) == (0.2, "integer")
    assert (
        "read as text with confidence 0.20 (values: 80 integer, 20 string, 100 distinct); integer comes next"
        in warnings[0]
    )


def test_what_the_owner_said_is_not_doubted() -> None:
    values = [str(i) for i in range(80)] + ["b"] * 20
    assert confidence_of(values, columns={"x": {"type": "text"}}) == (None, ())


def spelled(values: list[str | None], **config: Any) -> tuple[list[str | None], list[tuple[Any, ...]]]:
    step = MapValues.model_validate({"step": "map_values", "column": "x", **config})
    outcome = spelling.apply(pa.record_batch({"x": pa.array(values, pa.string())}), step, Scratch())
    return outcome.batch["x"].to_pylist(), [f[:3] for f in found(outcome)]


def test_spellings_become_one() -> None:
    values = [" New  York", "NYC", None, "new york", "Paris"]
    now, said = spelled(values, synonyms={"nyc": "New York"}, known=["New York", "Berlin"])
    assert now == ["New York", "New York", None, "New York", "Paris"]
    assert said == [(i, "changed", "respelled") for i in (0, 1, 3)] + [(4, "flagged", "unknown")]


def test_unknown_values_are_nullified_or_removed_as_asked() -> None:
    assert spelled(["a", "b"], known=["A"], unknown="nullify") == (
        ["A", None], [(0, "changed", "respelled"), (1, "changed", "unknown")],
    )  # fmt: skip
    assert spelled(["b"], known=["A"], unknown="remove")[1] == [(0, "removed", "unknown")]
    assert spelled(["b "], known=["A"], unknown="keep", squeeze=False) == (["b "], [])


def test_case_is_as_asked() -> None:
    assert spelled(["o'hara ST", None], case="upper")[0] == ["O'HARA ST", None]


def read(texts: list[str | None], unit: str, **config: Any) -> list[float | None]:
    step = ConvertUnits.model_validate({"step": "convert_units", "column": "x", "unit": unit, **config})
    batch = quantities.apply(pa.record_batch({"x": pa.array(texts, pa.string())}), step, Scratch()).batch
    return [None if v is None else round(v, 9) for v in batch[f"x_{unit}"].to_pylist()]


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("12 kg", "kg", 12), ("12kg", "g", 12_000), ("1,500 lbs", "kg", 680.388555), ("3 Kg.", "kg", 3),
        ("3,5 km/h", "m/s", 0.972222222), ("1.234,5 m", "m", 1234.5), ("1'234.5 m", "m", 1234.5), ("0,125 m", "m", 0.125),
        ("5'11\"", "cm", 180.34), ("5'11", "cm", 180.34), ("6 ft 2 in", "m", 1.8796), ("1h20", "min", 80),
        ("1 h 30 min", "h", 1.5), ("1m25", "m", 1.25), ("30 m2", "m²", 30), ("2 ft3", "L", 56.633693184),
        ("-40 °C", "°F", -40), ("−3°C", "K", 270.15), ("98.6 F", "°C", 37), ("15 %", "‰", 150), ("1.5e3 W", "kW", 1.5),
        ("20 fl oz", "l", 0.591470591), ("-5 ft 6", "in", -66), ("10 MiB", "kB", 10_485.76), (".5 l", "ml", 500),
    ],
)  # fmt: skip
def test_a_quantity_is_read_in_the_unit_asked_for(text: str, unit: str, value: float) -> None:
    assert read([text], unit) == [value]


@pytest.mark.parametrize(
    "text", ["", "kg", "12", "12 s", "10-12 kg", "1,23,456 kg", "1.2.3 kg", "12 parsnips", "1 kg 2", "a 3 kg"]
)
def test_what_is_no_such_quantity_is_null_and_flagged(text: str) -> None:
    step = ConvertUnits(column="x", unit="kg")
    outcome = quantities.apply(pa.record_batch({"x": [text, "2 kg"]}), step, Scratch())
    assert outcome.batch["x_kg"].to_pylist() == [None, 2]
    assert [f[:3] for f in found(outcome)] == [(0, "flagged", "unreadable")]


def test_a_number_alone_has_the_unit_that_is_assumed() -> None:
    assert read(["12", None, "12 g"], "kg", assume="kg") == [12, None, 0.012]


def test_the_decimal_sign_can_be_said() -> None:
    assert read(["1,234 kg", "1.234 kg"], "kg", decimal=",") == [1.234, 1234]
    assert read(["1,234 kg", "1.234 kg", "3,5 kg"], "kg", decimal=".") == [1234, 1.234, None]


def test_an_unknown_unit_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no unit 'kmh/h'"):
        ConvertUnits(unit="kmh/h")


def test_no_row_is_no_trouble() -> None:
    assert read([], "kg") == []
    assert spelled([]) == ([], [])
    assert found(checked(ages(), columns={"age": {"ge": 0, "isin": [1]}})) == []


def test_a_recipe_over_a_table_says_what_it_removed_however_many_tasks_there_are(tmp_path: Path) -> None:
    rows = [[i, f"{150 + i} cm" if i != 7 else "tall", ["red", "Red ", "blue"][i % 3], 10 + i % 7 if i != 50 else 9999, i % 2]
            for i in range(120)]  # fmt: skip
    files = {
        "a.csv": csv_of(rows[:70], header=["k", "height", "colour", "n", "y"]),
        "b.csv": csv_of(rows[70:], header=["k", "height", "colour", "n", "y"]),
    }
    steps = [
        {"step": "map_values", "column": "colour", "case": "lower"},
        {"step": "convert_units", "column": "height", "unit": "m"},
        {"step": "check_table", "columns": {"k": {"ge": 3}}},
        {"step": "outliers", "action": "remove", "columns": ["n"]},
    ]
    made = clean(tmp_path / "once", files, target="y", dedup=False, steps=steps)
    assert made.summary["removed"] == {"check_table.ge": 3, "outliers.high": 1}
    assert set(made.rows("colour")) == {"red", "blue"}
    assert sorted(v for v in made.rows("height_m") if v is not None)[0] == 1.53
    assert made.ref == clean(tmp_path / "parts", files, target="y", dedup=False, steps=steps, bytes_per_task=700).ref


def test_a_run_that_fails_by_a_constraint_names_the_file_the_row_and_the_step(tmp_path: Path) -> None:
    rows = [[i / 3, i % 2] for i in range(30)]
    steps: list[dict[str, Any]] = [
        {"step": "check_table", "columns": {"x": {"ge": 1}}},
        {"step": "check_table", "columns": {"x": {"le": 8}}, "on_broken": "fail"},
    ]
    with pytest.raises(errors.InvalidData, match=r"a\.csv, row 26: column 'x' breaks the constraint le 8") as refused:
        clean(tmp_path, {"a.csv": csv_of(rows, header=["x", "y"])}, target="y", steps=steps)
    assert refused.value.field == "with.steps.1.columns.x"
