"""A factory of Millrace 0.1 whose host lost power, with runs open, goes on under this version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from millrace.settings import Settings
from millrace.testing.checker import check
from millrace.testing.factory import environment_of, running_factory

OLD_LEDGER = Path(__file__).parents[1] / "data" / "ledger-0.1.sql"
FAST = {"MILLRACE_LEASE_S": "2", "MILLRACE_HEARTBEAT_S": "0.5", "OMP_NUM_THREADS": "1"}


def test_open_runs_of_version_01_reach_their_ends(embedded_settings: Settings) -> None:
    embedded_settings.home.mkdir(parents=True)
    with sqlite3.connect(embedded_settings.home / "ledger.sqlite") as old:
        old.executescript(OLD_LEDGER.read_text())
    old.close()
    with running_factory({**environment_of(embedded_settings), **FAST}) as factory:
        runs = [factory.client.run(view.run_id) for view in factory.client.runs(limit=50).runs]
        ends = {run.id: run.wait_end(timeout_s=60).status for run in runs}
        journals = {run.id: [event.seq for event in run.events()] for run in runs}
    assert sorted(ends.values()) == ["failed", *["succeeded"] * 5]
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in journals.values())
    assert check(embedded_settings, accepted=ends) == []
