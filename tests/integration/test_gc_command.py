"""`millrace gc` on a factory's home, and what conductors do by themselves."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from millrace.cli.__main__ import main
from millrace.ledger.collections import read_collection
from millrace.ledger.ledger import open_ledger
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace_conductor import gc


@pytest.fixture
def garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose store holds one blob that nothing names."""
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    settings = Settings(home=tmp_path)
    open_store(settings).put_bytes(b"garbage")
    return settings


def _num_blobs(settings: Settings) -> int:
    return len(list(open_store(settings).list_blobs()))


def test_a_dry_run_says_what_would_go(garbage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--dry-run", "--grace", "0", "--idle"]) == 0
    assert "would be removed: 1 blobs, 7 B" in capsys.readouterr().out
    assert _num_blobs(garbage) == 1


def test_what_is_within_the_grace_stays_and_is_told(garbage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc"]) == 0
    assert "stored or touched within the grace" in capsys.readouterr().out
    assert _num_blobs(garbage) == 1


def test_a_report_for_scripts_counts(garbage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--grace", "0", "--idle", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [1, 7]
    assert _num_blobs(garbage) == 0


def test_a_grace_that_writers_do_not_know_is_refused(garbage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--grace", "60"]) == 2
    assert "--idle" in capsys.readouterr().err
    assert _num_blobs(garbage) == 1


def test_conductors_collect_by_themselves_and_stop_at_once(garbage: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "LOOK_S", 0.01)
    settings = garbage.model_copy(update={"gc_grace_s": 1e-3})
    time.sleep(0.01)
    database, stop = open_ledger(settings.database).database, threading.Event()
    thread = threading.Thread(
        target=gc.collect_forever,
        args=(database, lambda tenant: open_store(settings, tenant=tenant), settings),
        kwargs={"owner": "con_1", "stop": stop},
    )
    thread.start()
    deadline = time.monotonic() + 20
    while _num_blobs(settings) and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert _num_blobs(settings) == 0
    found = read_collection(database, "default")
    assert found is not None
    assert found.owner == "con_1"
    database.close()
