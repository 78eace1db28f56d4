"""`millrace migrate` and what `millrace doctor` says of the schema."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from millrace.cli.__main__ import main
from millrace.cli.doctor import examine
from millrace.ledger.migrations import CODE

OLD_LEDGER = Path(__file__).parents[1] / "data" / "ledger-0.1.sql"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a ledger of Millrace 0.1."""
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    old = sqlite3.connect(tmp_path / "ledger.sqlite")
    old.executescript(OLD_LEDGER.read_text())
    old.close()
    return tmp_path


def test_a_due_migration_is_told_and_then_made(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--check"]) == 1
    assert capsys.readouterr().out == f"schema 1, this code needs {CODE}: a migration is due.\n"
    assert main(["migrate"]) == main(["migrate", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["version"] == CODE


def test_the_doctor_migrates_nothing(home: Path) -> None:
    told = [next(f for f in examine() if f.what == "ledger") for _ in range(2)]
    assert [(f.state, "a migration is due" in f.detail) for f in told] == [("note", True)] * 2


def test_code_that_is_too_old_is_told_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["migrate"])
    ledger = sqlite3.connect(home / "ledger.sqlite")
    ledger.execute("INSERT INTO schema_steps VALUES (?, ?, 0)", (CODE + 1, CODE + 1))
    ledger.commit()
    ledger.close()
    assert main(["migrate"]) != 0
    assert "Upgrade Millrace." in capsys.readouterr().err
    assert next(f for f in examine() if f.what == "ledger").state == "fault"
