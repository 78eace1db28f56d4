"""The history checker on a real ledger, store and broker: silent where all is well, and not where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from contract.bus_actors import wait_until
from hands import PLAN, Hand, chain, started, submit, succeeded
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import AttemptEvent, Holder
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.settings import Settings
from millrace.store.artifacts import write_manifest
from millrace.store.connect import open_store
from millrace.testing.checker import check
from millrace.testing.factory import environment_of
from millrace_conductor.service import Conductor


def work(command: ExecuteAttempt, holder: Holder) -> list[AttemptEvent]:
    """Stage `wide` claims a plan of two tasks that nobody has stored."""
    return [started(command, holder), succeeded(command, holder, num_tasks=2 if command.stage == "wide" else 1)]


@pytest.fixture
def factory(stack_settings: Settings) -> Iterator[tuple[Ledger, Bus]]:
    """A conductor and a worker by hand, at work."""
    stack_settings.home.mkdir(exist_ok=True)
    store = open_store(stack_settings)
    with closing(open_ledger(stack_settings.database)) as ledger, closing(connect(stack_settings.broker)) as bus:
        conductor = Conductor(stack_settings, ledger=ledger, bus=bus, store_of=lambda _: store)
        thread = threading.Thread(target=conductor.run)
        thread.start()
        with Hand(bus, stack_settings.broker, work):
            yield ledger, bus
        conductor.stop.set()
        conductor.work.set()
        thread.join(20)


def run_to_end(ledger: Ledger, bus: Bus, *stages: str) -> str:
    run_id = submit(ledger, chain(*stages))
    bus.signal("inbox.changed", {})
    wait_until(lambda: ledger.run("default", run_id).finished_at is not None)
    return run_id


def test_a_run_that_ended_well_leaves_nothing_to_say(stack_settings: Settings, factory: tuple[Ledger, Bus]) -> None:
    run_ids = [run_to_end(*factory, "a", "b") for _ in range(2)]
    assert check(stack_settings, accepted=run_ids, patience_s=10.0) == []


def test_what_was_lost_or_never_stored_is_found(stack_settings: Settings, factory: tuple[Ledger, Bus]) -> None:
    run_to_end(*factory, "wide")
    found = check(stack_settings, accepted=["run_gone"])
    assert ("lost", "run_gone") in {(v.kind, v.about) for v in found}
    assert ("missing", PLAN.digest) in {(v.kind, v.about) for v in found}


def test_the_checker_runs_by_itself_and_says_so_with_its_exit_code(embedded_settings: Settings) -> None:
    store = open_store(embedded_settings)
    write_manifest(store, "report", {"report.json": b"{}"}, meta={})
    open_ledger(embedded_settings.database).close()
    ended = subprocess.run(
        [sys.executable, "-m", "millrace.testing.checker"], env={**os.environ, **environment_of(embedded_settings)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "nothing is wrong" in ended.stderr
