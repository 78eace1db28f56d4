"""Pages: a long list as one artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace import errors
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.artifacts import write_manifest
from millrace.store.connect import open_store
from millrace.store.pages import read_pages, read_row, write_pages


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


def test_rows_come_back_in_order_over_several_pages(store: Store) -> None:
    rows = [{"n": n, "text": "ä\u2028\n"} for n in range(25)]
    ref = write_pages(store, "plan", iter(rows), page_rows=10)
    assert list(read_pages(store, ref)) == rows


@pytest.mark.parametrize("index", [0, 9, 10, 24])
def test_any_row_is_found(store: Store, index: int) -> None:
    ref = write_pages(store, "plan", ({"n": n} for n in range(25)), page_rows=10)
    assert read_row(store, ref, index) == {"n": index}


def test_a_row_beyond_the_end_is_an_error(store: Store) -> None:
    ref = write_pages(store, "plan", [{"n": 0}])
    with pytest.raises(errors.InvalidData, match="there is no row 1"):
        read_row(store, ref, 1)


def test_equal_rows_have_one_name(store: Store) -> None:
    first = write_pages(store, "plan", [{"a": 1, "b": 2}])
    assert write_pages(store, "plan", [{"b": 2, "a": 1}]) == first


def test_no_rows_are_no_pages(store: Store) -> None:
    assert list(read_pages(store, write_pages(store, "plan", []))) == []


def test_another_artifact_is_refused(store: Store) -> None:
    ref = write_manifest(store, "any", {"a.json": b"{}"}, meta={})
    with pytest.raises(errors.InvalidData, match="not a list of rows"):
        read_row(store, ref, 0)
