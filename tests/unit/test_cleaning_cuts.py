"""What a source becomes does not depend on which rows were read together."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleaning_runs import clean, csv_of
from millrace_cleaning.infer import make_plan
from millrace_cleaning.read.rows import to_batch
from millrace_cleaning.repair import Place, repair
from millrace_cleaning.repeats import MAX_VALUES, RepeatSketch
from millrace_cleaning.scan import ColumnScan, scan_batches
from millrace_cleaning.settings import CleanConfig

NUMBERS = st.one_of(
    st.integers(-3, 3), st.just(2**53 + 1), st.just(2**70), st.sampled_from([0.5, 3.0, 1e300, math.nan])
)
VALUES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "NA", "x", "3", "3.0", "true", "2024-01-02", "[1]", "a b c d e"]),
    st.lists(NUMBERS, max_size=3), st.lists(st.lists(NUMBERS, max_size=2), max_size=2), st.just({"a": 1}), st.just(["x"]),
)  # fmt: skip
TYPES = ("", "number", "integer", "boolean", "category", "text", "timestamp", "json", "vector", "tokens")


def outcome(rows: list[dict[str, Any]], ends: list[int], type_: str) -> tuple[str, str, list[tuple[str, ...]]]:
    """(the plan, the typed rows, the findings) of rows that are read in batches which end there."""
    config = CleanConfig.model_validate(
        {
            "features": ["n"],
            "dedup": False,
            "columns": {"v": {"type": type_, "shape": [2] if type_ == "vector" else None}},
        }
        if type_
        else {"features": ["n"]}
    )
    edges = sorted({0, len(rows), *(end for end in ends if end < len(rows))})
    batches = [to_batch(rows[a:b]) for a, b in pairwise(edges)]
    parts = [scan_batches([batch], null_values=config.null_values) for batch in batches]
    merged: dict[str, ColumnScan] = {"v": ColumnScan(), "n": ColumnScan()}
    for scans, _ in parts:
        for name, scan in scans.items():
            merged[name].merge(ColumnScan.from_json(json.loads(json.dumps(scan.to_json()))))
    plan = make_plan(merged, config=config)
    made: list[Any] = []
    found: list[tuple[str, ...]] = []
    for start, batch in zip(edges, batches, strict=False):
        place = Place("t", np.arange(batch.num_rows))
        repaired = repair(batch, plan, null_values=config.null_values, place=place)
        made += repaired.batch.to_pylist()
        found += [
            (str(start + f["row"]), f["rule"], f["column"]) for f in repaired.findings.table().to_pylist()
        ]  # fmt: skip
    return plan.model_dump_json(), repr(made), sorted(found)


@given(
    values=st.lists(VALUES, min_size=1, max_size=12), ends=st.lists(st.integers(1, 11), max_size=6),
    type_=st.sampled_from(TYPES),
)  # fmt: skip
def test_what_a_value_becomes_does_not_depend_on_the_values_beside_it(
    values: list[Any], ends: list[int], type_: str
) -> None:
    rows = [{"v": value, "n": i} for i, value in enumerate(values)]
    assert outcome(rows, ends, type_) == outcome(rows, [], type_)


@given(values=st.lists(st.integers(0, 3000), max_size=60), cut=st.integers(0, 60))
def test_repeats_are_found_whatever_parts_they_stand_in(values: list[int], cut: int) -> None:
    texts = [str(value % 2000) for value in values]
    whole, parts = RepeatSketch(), RepeatSketch()
    whole.add(*counted(texts))
    for part in (texts[cut:], texts[:cut]):
        other = RepeatSketch()
        other.add(*counted(part))
        parts.merge(RepeatSketch.from_json(json.loads(json.dumps(other.to_json()))))
    assert parts.to_json() == whole.to_json()
    assert whole.repeats == (len(set(texts)) < len(texts))


def counted(texts: list[str]) -> tuple[list[str], list[int]]:
    return list(dict.fromkeys(texts)), [texts.count(text) for text in dict.fromkeys(texts)]


def test_of_many_values_a_sample_says_whether_they_repeat() -> None:
    once, twice = RepeatSketch(), RepeatSketch()
    for start in range(0, 20_000, 1000):
        once.add([f"{i}" for i in range(start, start + 1000)], [1] * 1000)
        twice.add([f"{i % 10_000}" for i in range(start, start + 1000)], [1] * 1000)
    assert (len(once.seen), once.repeats) == (MAX_VALUES, False)
    assert (len(twice.seen), all(twice.seen.values())) == (MAX_VALUES, True)


@pytest.mark.parametrize("bytes_per_task", [2**40, 3000])
def test_a_user_of_two_rows_far_apart_is_no_id_however_the_source_is_cut(tmp_path: Path, bytes_per_task: int) -> None:
    rows = [(i % 1400, i % 5, i % 3) for i in range(2800)]
    files: dict[str, bytes | pa.Table] = {"t.csv": csv_of(rows, header=["user_id", "n", "m"])}
    made = clean(tmp_path, files, bytes_per_task=bytes_per_task)
    assert (made.num_tasks > 1, made.column("user_id").role) == (bytes_per_task == 3000, "feature")


def test_a_few_fractions_make_a_column_of_whole_numbers_one_of_numbers(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"price": i if i % 50 else i + 0.5, "n": i % 7}) + "\n" for i in range(200))
    made = clean(tmp_path, {"t.jsonl": lines.encode()})
    assert made.column("price").type == "number"
    assert made.profile["unparseable"] == {}
