"""A blocklist whose terms come as a file is the blocklist with these terms; what is no list of terms is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cleaning_runs import Cleaned, clean
from millrace import errors
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.terms import MAX_FILE_BYTES

TEXTS = [f"A long walk by the river on day {i}" for i in range(40)] + [
    "Win at the Casino",
    "Please click here",
    "ÄRGER",
]
BLOCKED = {"step": "blocklist", "terms_from": "bad.txt"}


def cleaned(root: Path, step: dict[str, Any], **options: Any) -> Cleaned:
    return clean(root, {"t.parquet": pa.table({"text": TEXTS})}, features="text", steps=[step], dedup=False, **options)


def refused(root: Path, content: bytes | None, **step: Any) -> errors.InvalidData:
    with pytest.raises(errors.InvalidData) as caught:
        cleaned(root, {**BLOCKED, **step}, lists=None if content is None else {"bad.txt": content})
    assert caught.value.field == "with.steps.0.terms_from"
    return caught.value


@pytest.mark.parametrize("bytes_per_task", [64 * 2**20, 200])
def test_terms_of_a_file_are_those_of_the_recipe(tmp_path: Path, bytes_per_task: int) -> None:
    content = "\ufeffcasino\r\n\r\n  click here  \n".encode()
    step = {**BLOCKED, "terms": ["ärger"]}
    found = cleaned(tmp_path / "file", step, lists={"bad.txt": content}, bytes_per_task=bytes_per_task)
    inline = cleaned(tmp_path / "inline", {"step": "blocklist", "terms": ["ärger", "casino", "click here"]})
    assert found.profile["removed"] == inline.profile["removed"] == {"blocklist.max_matches": 3}
    assert sorted(found.rows("text")) == sorted(inline.rows("text"))


def test_a_file_needs_the_input(tmp_path: Path) -> None:
    found = refused(tmp_path, None)
    assert "the stage's input `terms` is not bound" in found.message
    assert "inputs: {terms: $params.NAME}" in found.remedy


def test_what_is_no_list_of_terms_is_refused(tmp_path: Path) -> None:
    assert (
        "no file 'bat.txt'; did you mean 'bad.txt'?"
        in refused(tmp_path / "a", b"casino\n", terms_from="bat.txt").message
    )
    assert "not UTF-8 text (byte 1)" in refused(tmp_path / "b", b"a\xff\n").message
    assert "8388609 bytes" in refused(tmp_path / "c", b"a" * (MAX_FILE_BYTES + 1)).message
    assert "a term has 1 to 200 characters" in refused(tmp_path / "d", b"a" * 201).message
    assert "at most 100,000 terms" in refused(tmp_path / "e", b"a\n" * 100_001).message
    assert "give terms, or a file" in refused(tmp_path / "f", b"\n \n").message


def test_a_blocklist_without_any_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="give terms, or a file of them in `terms_from`"):
        CleanConfig.model_validate({"steps": [{"step": "blocklist"}]})
