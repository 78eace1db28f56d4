"""Errors of a recipe with a private column tell no value, whoever raises them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cleaning_runs import clean
from millrace import errors
from millrace_cleaning.hiding import hiding
from millrace_cleaning.infer import private_columns
from millrace_cleaning.settings import CleanConfig

STEP = {"step": "pii", "column": "note"}
DATUM = "anna.meyer@example.com"


def test_an_error_that_nobody_foresaw_is_told_by_kind_and_place() -> None:
    with pytest.raises(errors.StageFailed, match=r"ArrowInvalid \(.*, in ") as raised, hiding(if_private=True):
        pa.array([DATUM]).cast(pa.int64())
    said = "".join(traceback.format_exception(raised.value))
    assert DATUM not in said
    assert "private column" in said


def test_without_a_private_column_it_is_told_as_it_is() -> None:
    with pytest.raises(pa.ArrowInvalid, match=DATUM), hiding(if_private=False):
        pa.array([DATUM]).cast(pa.int64())


@pytest.mark.parametrize("error", [errors.InvalidData("row 3 is bad"), MemoryError(), FileNotFoundError("x")])
def test_errors_about_files_and_room_pass(error: Exception) -> None:
    with pytest.raises(type(error)), hiding(if_private=True):
        raise error


def test_a_private_column_is_text_and_its_values_stand_in_no_summary(tmp_path: Path) -> None:
    rows = "note,label\n" + "".join(f"{DATUM} wrote letter {i},{'ab'[i % 2]}\n" for i in range(60))
    config: dict[str, Any] = {"steps": [STEP], "target": "label", "dedup": False}
    assert private_columns(CleanConfig.model_validate(config)) == {"note"}
    made = clean(tmp_path, {"rows.csv": rows.encode()}, **config)
    assert made.column("note").type == "text"
    assert set(made.rows("note")) == {f"<EMAIL> wrote letter {i}" for i in range(60)}
    assert DATUM not in f"{made.summary} {made.profile}"


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidData, match="no column 'note'"):
        clean(tmp_path, {"rows.csv": b"a,label\nx,y\nz,w\n"}, steps=[STEP], target="label")
