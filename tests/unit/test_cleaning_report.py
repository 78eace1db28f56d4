"""The page of a data set's profile: what it draws, and that nothing in it runs or is fetched."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from made_datasets import column, make_dataset
from millrace.contracts.schema import Column, DatasetSchema
from millrace.datasets.reading import SPLITS, Dataset
from millrace_cleaning.report.figures import correlations, distributions, examples
from millrace_cleaning.report.page import render
from millrace_cleaning.report.sampling import NUM_ROWS, Sampler, read_samples

HOSTILE = "<script>alert(1)</script>"
COLUMNS = [
    column("age", "number"), column("double", "number"), column("same", "integer"), column("city", "category", "target"),
    column("text", "text"),
]  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rows = [
        {"n": i, "age": float(i), "double": 2.0 * i, "same": 7, "city": "AB"[i % 2], "text": HOSTILE * (i + 1)}
        for i in range(40)
    ]
    return make_dataset(tmp_path / "made", {"train": rows[:30], "test": rows[30:]}, COLUMNS)


def sampled(dataset: Dataset) -> pa.Table:
    files = []
    for split in SPLITS:
        if batches := [batch for _, batch in dataset.batches(split=split)]:
            sampler = Sampler(dataset.schema)
            assert list(sampler.watch(batches)) == batches
            files.append(dataset.root / f"{split}.sample")
            sampler.write(files[-1], split)
    found = read_samples(files)
    assert found is not None
    return found


def profile(**more: Any) -> dict[str, Any]:
    return {"rows_in": 50, "rows_out": 40, "splits": {"train": 30, "test": 10}, "columns": {}, "warnings": [], **more}


def test_each_column_is_drawn_by_split(dataset: Dataset) -> None:
    rows = sampled(dataset)
    drawn = {d.column.name: d for d in distributions(dataset.schema, rows)}
    assert list(drawn) == [c.name for c in COLUMNS]
    assert all(sum(bar.shares["train"] for bar in d.bars) == pytest.approx(1) for d in drawn.values())
    assert [(bar.label, bar.shares) for bar in drawn["city"].bars] == [
        ("A", {"train": 0.5, "test": 0.5}), ("B", {"train": 0.5, "test": 0.5}),
    ]  # fmt: skip
    assert (drawn["text"].of, len(drawn["same"].bars)) == ("characters", 1)


def test_an_axis_says_where_it_ends_and_whether_values_lie_beyond(tmp_path: Path) -> None:
    rows = [
        {"n": i, "far": 1e6 if i == 7 else float(i % 90), "few": i % 3, "when": 86_400_000_000 * i} for i in range(400)
    ]
    columns = [column("far", "number"), column("few", "integer"), column("when", "timestamp")]
    made = make_dataset(tmp_path / "ends", {"train": rows}, columns)
    ends = {d.column.name: d.ends for d in distributions(made.schema, sampled(made))}
    assert ends["far"] == ("0", "≥ 89")
    assert ends["few"] == ("0", "2")
    assert (ends["when"][0][:9], ends["when"][1][:7]) == ("≤ 1970-01", "≥ 1971-")


def test_correlations_are_pearsons_and_none_of_a_constant(dataset: Dataset) -> None:
    rows = sampled(dataset)
    found = correlations(dataset.schema, rows)
    assert found is not None
    assert found.names == ("age", "double", "same")
    assert found.values[0][1] == pytest.approx(1)
    assert math.isnan(found.values[0][2])


def test_examples_are_cut_to_what_fits(dataset: Dataset) -> None:
    rows = sampled(dataset)
    assert all(len(row["text"]) <= 201 for row in examples(dataset.schema, rows))


def test_columns_may_be_called_as_the_page_calls_its_own(tmp_path: Path) -> None:
    columns = [column("split", "category"), column("row", "integer")]
    made = make_dataset(
        tmp_path / "named", {"train": [{"n": i, "split": "ab"[i % 2], "row": i} for i in range(9)]}, columns
    )
    rows = sampled(made)
    assert [bar.label for bar in distributions(made.schema, rows)[0].bars] == ["a", "b"]
    assert {example["split"] for example in examples(made.schema, rows)} == {"a", "b"}


def test_the_page_runs_nothing_and_fetches_nothing(dataset: Dataset) -> None:
    removed, nulls = {HOSTILE: 3, "duplicate": 7}, {"age": {"nulls": {"train": 4}}}
    flow = {"rows_in": 50, "rows_out": 47, "bytes_in": 900, "bytes_out": 800, "changed": 0, "flagged": 2, "removed": 3}
    steps = [{"step": "length", **flow}]
    rules = [{"step": "length", "rule": HOSTILE, "action": "removed", "count": 3}]
    told = profile(removed=removed, columns=nulls, steps=steps, rules=rules, warnings=[HOSTILE])
    page = render(told, dataset.schema, sampled(dataset)).decode()
    assert "<script" not in page
    assert re.findall(r"https?://|src=|href=|@import|url\(", page) == []
    assert "default-src 'none'" in page
    assert all(
        f"<h2>{part}</h2>" in page for part in ("Steps", "What rules did", "Missing values", "Correlations", "Examples")
    )
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_a_profile_without_rows_has_a_page() -> None:
    page = render(profile(rows_out=0, splits={}), DatasetSchema(columns=tuple(COLUMNS)), None)
    assert b"Data profile" in page


def test_a_sample_is_small_whatever_the_rows_are(tmp_path: Path) -> None:
    rows = [
        {"n": i, "text": "x" * 100_000, "picture": {"bytes": b"p" * 50_000, "path": "a.png"}, "pixels": [0.5] * 4096}
        for i in range(30)
    ]
    columns = [
        column("text", "text"), column("picture", "image"),
        Column(name="pixels", type="vector", shape=(4096,)),
    ]  # fmt: skip
    dataset = make_dataset(tmp_path / "made", {"train": rows}, columns, types={"pixels": pa.list_(pa.float32(), 4096)})
    found = sampled(dataset)
    assert found.num_rows == 30 <= NUM_ROWS
    assert found.nbytes < 30 * 2000
    assert set(found.column("text.size").to_pylist()) == {100_000}
    assert [d.of for d in distributions(dataset.schema, found)] == ["characters", "bytes", "values"]


class Balanced(HTMLParser):
    """Fails where an element ends that did not begin."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - HTMLParser's signature
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """It ends where it begins."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
