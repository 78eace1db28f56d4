"""`millrace data reveal` gives back what tokens stand for to who has the key, and says nothing of the key."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.cli.__main__ import main
from millrace.datasets.pii_tokens import Tokens, key_id

KEY = "0123456789abcdef0123456789abcdef"
OTHER = KEY[::-1]
DATUM = 'anna, "the, second"\nline@example.com'
TOKEN = Tokens(KEY).token(DATUM, "email")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("MILLRACE_PII_KEY", KEY)
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))

    def run_(*words: object) -> tuple[int, str, str]:
        code = main(["data", *map(str, words)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run_


def test_tokens_come_back_from_arguments_and_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("reveal", f"Write to {TOKEN}.") == (0, f"Write to {DATUM}.\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"a {TOKEN}\nplain\n"))
    assert run("reveal") == (0, f"a {DATUM}\nplain\n", "")


def test_a_file_stays_what_it_is(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "t.txt").write_text(f"see {TOKEN}\r\nend")
    assert run("reveal", "--file", tmp_path / "t.txt", "--out", out)[0] == 0
    assert out.read_bytes().decode() == f"see {DATUM}\r\nend"
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": [TOKEN, 1], "b": {"c": f"x{TOKEN}"}}) + "\n")
    assert run("reveal", "--file", tmp_path / "t.jsonl", "--out", out)[0] == 0
    assert json.loads(out.read_text()) == {"a": [DATUM, 1], "b": {"c": f"x{DATUM}"}}
    (tmp_path / "t.csv").write_text(f"id,mail\n1,{TOKEN}\n")
    assert run("reveal", "--file", tmp_path / "t.csv", "--out", out)[0] == 0
    assert list(csv.reader(io.StringIO(out.read_text(), newline=""))) == [["id", "mail"], ["1", DATUM]]
    table = pa.table({"t": [TOKEN, None, "no token"], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert run("reveal", "--file", tmp_path / "t.parquet", "--out", out)[0] == 0
    assert pq.read_table(out).to_pydict() == {"t": [DATUM, None, "no token"], "n": [1, 2, 3]}


def test_another_key_is_refused_with_place_and_id_and_leaves_nothing(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "key").write_text(f"{OTHER}\n")
    (tmp_path / "t.txt").write_text(f"fine\nsee {TOKEN}\n")
    code, out, err = run(
        "reveal", "--file", tmp_path / "t.txt", "--out", tmp_path / "out", "--key-file", tmp_path / "key"
    )
    assert (code, out) == (2, "")
    assert "t.txt, line 2: A token of kind EMAIL at character 4 does not open with this key." in err
    assert f"This key's id is {key_id(OTHER)}" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "t.txt"]
    assert not [key for key in (KEY, OTHER) if key in err + caplog.text]


def test_the_id_of_a_key_is_what_recipes_name(run: Run, tmp_path: Path) -> None:
    assert run("key-id") == (0, f"{key_id(KEY)}\n", "")
    (tmp_path / "key").write_text(OTHER)
    assert run("key-id", "--key-file", tmp_path / "key")[1].strip() == key_id(OTHER)


def test_what_is_no_key_or_no_file_is_refused_without_quoting_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"too short", b"", b"\xff" * 40, b"two lines of a secret\nand one more", b"k" * 5000):
        (tmp_path / "key").write_bytes(content)
        code, out, err = run("reveal", TOKEN, "--key-file", tmp_path / "key")
        assert (code, out) == (2, "")
        assert content[:9].decode("latin-1") not in err or not content
    assert "There is no file" in run("reveal", TOKEN, "--key-file", tmp_path / "none")[2]
    assert "There is no file" in run("reveal", "--file", tmp_path / "none.txt")[2]
    assert "not both" in run("reveal", TOKEN, "--file", tmp_path / "key")[2]
    monkeypatch.delenv("MILLRACE_PII_KEY")
    assert "There is no key" in run("reveal", TOKEN)[2]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.jsonl", b"{broken\n", "t.jsonl, line 1: This is no JSON."),
        ("t.txt", b"\xff\xfe", "not UTF-8 text"),
        ("t.csv", b"\xff\xfe", "not UTF-8 text"),
        ("t.csv", f"id,mail\n1,{Tokens(OTHER).token('a', 'email')}\n".encode(), "t.csv, line 2: A token of kind EMAIL"),
        ("t.parquet", b"PAR1", "no whole Parquet file"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(
    run: Run, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    code, _, err = run("reveal", "--file", tmp_path / name, "--out", tmp_path / "out")
    assert code != 0
    assert says in err
    assert not (tmp_path / "out").exists()
