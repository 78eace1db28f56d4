"""`millrace data` on data sets that lie in a directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from made_datasets import column, make_dataset
from millrace.cli.__main__ import main

COLUMNS = [column("name", "text"), column("age", "integer")]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_(*words: object) -> tuple[int, str, str]:
        code = main(["data", *map(str, words)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run_


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [{"n": i, "name": f"row {i}", "age": i} for i in range(6)]
    root = make_dataset(tmp_path / "old", {"train": rows[:4], "test": rows[4:]}, COLUMNS).root
    (root / "account").mkdir()
    entries = [
        {"row_id": "s-9", "file": "a.csv", "row": 10, "step": "length", "rule": "min_words", "action": "removed",
         "column": "name", "value": 2.0, "limit": 5.0, "detail": None},
        {"row_id": "s-3", "file": "a.csv", "row": 4, "step": "pii", "rule": "email", "action": "changed",
         "column": "name", "value": 1.0, "limit": None, "detail": None},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(entries), root / "account" / "part-00000.parquet")
    return root


def test_columns_and_splits_are_shown(run: Run, dataset: Path) -> None:
    code, out, _ = run("show", dataset)
    assert code == 0
    assert "train 4, test 2" in out
    assert "age     integer  feature" in out


def test_the_range_of_a_timestamp_is_shown_as_dates(run: Run, tmp_path: Path) -> None:
    when = column("when", "timestamp").model_copy(update={"minimum": 0.0, "maximum": 86_400.0})
    root = make_dataset(tmp_path / "times", {"train": [{"n": 0, "name": "a"}]}, [column("name", "text"), when]).root
    assert "1970-01-01 00:00:00 to 1970-01-02 00:00:00" in run("show", root)[1]
    far = when.model_copy(update={"maximum": 1e15})
    root = make_dataset(tmp_path / "far", {"train": [{"n": 0, "name": "a"}]}, [column("name", "text"), far]).root
    assert "1970-01-01 00:00:00 to 1e+15" in run("show", root)[1]


def test_units_are_shown_with_the_type(run: Run, tmp_path: Path) -> None:
    weight = column("weight", "number").model_copy(update={"unit": "kg"})
    root = make_dataset(tmp_path / "units", {"train": [{"n": 0, "name": "a"}]}, [column("name", "text"), weight]).root
    assert "weight  number (kg)  feature" in run("show", root)[1]


def test_a_row_is_explained_by_its_id_or_its_place(run: Run, dataset: Path) -> None:
    for row in ("s-9", "a.csv:10"):
        code, out, _ = run("explain", dataset, "--row", row, "--json")
        assert code == 0
        [entry] = json.loads(out)["entries"]
        assert (entry["rule"], entry["value"], entry["limit"]) == ("min_words", 2.0, 5.0)
    for rule in ("pii", "email", "pii.email", "email_name"):
        assert json.loads(run("explain", dataset, "--rule", rule, "--json")[1])["num_entries"] == 1
    out = run("explain", dataset, "--action", "removed")[1]
    assert "length  min_words  removed  1" in out
    assert "email" not in out


def test_a_row_that_a_rule_touched_in_several_columns_is_one_row(run: Run, dataset: Path) -> None:
    file = dataset / "account" / "part-00000.parquet"
    table = pq.read_table(file)
    twice = table.slice(1, 1).set_column(6, "column", pa.array(["age"]))
    pq.write_table(pa.concat_tables([table, twice]), file)
    pq.write_table(twice, dataset / "account" / "part-00001.parquet")  # the row's entries go on in the next file
    found = json.loads(run("explain", dataset, "--json")[1])
    assert ({c["rule"]: c["rows"] for c in found["counts"]}, found["num_entries"]) == ({"min_words": 1, "email": 1}, 4)


def test_a_rule_that_there_is_not_is_refused_with_the_nearest(run: Run, dataset: Path) -> None:
    profile = {
        "steps": [{"step": "length"}, {"step": "repair_text"}],
        "rules": [{"step": "length", "rule": "min_words"}],
    }
    (dataset / "profile.json").write_text(json.dumps(profile))
    code, _, err = run("explain", dataset, "--rule", "lenght.min_words")
    assert code == 2
    assert "did you mean 'length.min_words'?" in err
    assert "Nothing is in the account" in run("explain", dataset, "--rule", "repair_text")[1]


def test_a_row_without_an_account_may_not_have_been_read(run: Run, dataset: Path) -> None:
    (dataset / "profile.json").write_text(json.dumps({"unread": {"rows": {"ragged": 2}}}))
    assert "it was not read (ragged 2)" in run("explain", dataset, "--row", "a.csv:7")[1]


def test_a_difference_is_told_and_is_the_exit_code(run: Run, dataset: Path, tmp_path: Path) -> None:
    rows = [{"n": i, "name": f"row {i}", "age": i + (i == 2)} for i in range(5)]
    new = make_dataset(tmp_path / "new", {"train": rows[:4], "test": rows[4:]}, COLUMNS).root
    assert run("diff", dataset, dataset)[0] == 0
    code, out, _ = run("diff", dataset, new)
    assert code == 1
    assert "added 0, removed 1, changed 1, moved 0" in out
    assert "changed in: age (1)" in out


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_sample_is_written_as_its_file_ends(run: Run, dataset: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"sample.{ending}"
    assert run("sample", dataset, "-n", 3, "--split", "train", "--out", target)[0] == 0
    text = target.read_bytes()
    assert (pq.read_table(target).num_rows if ending == "parquet" else text.count(b"\n") - (ending == "csv")) == 3


def test_a_sample_is_printed_as_lines_of_json(run: Run, dataset: Path) -> None:
    code, out, _ = run("sample", dataset, "-n", 2)
    assert (code, {row["split"] for row in map(json.loads, out.splitlines())} <= {"train", "test"}) == (0, True)


def test_a_sample_says_the_split_beside_a_column_of_that_name(run: Run, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "named", {"test": [{"n": 0, "split": "mine"}]}, [column("split", "text")]).root
    assert {"split": "mine", "split_": "test"}.items() <= json.loads(run("sample", root)[1]).items()


def test_a_directory_that_is_not_there_is_told_so(run: Run, tmp_path: Path) -> None:
    code, _, err = run("show", tmp_path / "nowhere")
    assert code != 0
    assert "There is no directory" in err


def test_what_is_no_data_set_is_told_so(run: Run, tmp_path: Path) -> None:
    code, _, err = run("show", tmp_path)
    assert code != 0
    assert "schema.json is missing" in err
    code, _, err = run("sample", tmp_path, "--out", tmp_path / "x.xls")
    assert code != 0
