"""What a conductor answers to heartbeats: hold, stop, or nothing yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.bus_actors import wait_until
from hands import SERVICE, chain, submit
from millrace.bus.connect import connect
from millrace.contracts.events import AttemptStarted, Holder, make_event
from millrace.contracts.ids import attempt_id
from millrace.ledger.ledger import open_ledger
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace_conductor.service import Conductor
from millrace_conductor.watch import Watch

WORKER = "wrk_asks"


@pytest.fixture
def conductor(tmp_path: Path) -> Iterator[Conductor]:
    """One that does only what a test has it do, and has sent a run's first command."""
    settings = Settings(home=tmp_path, lease_s=0.5)
    ledger, bus, store = open_ledger(settings.database), connect(settings.broker), open_store(settings)
    made = Conductor(settings, ledger=ledger, bus=bus, store_of=lambda _: store)
    submit(ledger, chain("a"))
    beat(made)
    made.tick()
    made.tick()
    yield made
    bus.close()
    ledger.close()


@pytest.fixture
def orders(conductor: Conductor) -> Iterator[list[dict[str, Any]]]:
    """What the worker is told."""
    heard: list[dict[str, Any]] = []
    stop, is_heard = threading.Event(), threading.Event()

    def note(_: str, payload: dict[str, Any]) -> None:
        is_heard.set() if payload.get("probe") else heard.append(payload)

    key = f"control.worker.{WORKER}"
    thread = threading.Thread(target=conductor.bus.listen, args=([key], note), kwargs={"stop": stop})
    thread.start()
    while not is_heard.wait(0.05):
        conductor.bus.signal(key, {"probe": True})
    yield heard
    stop.set()
    thread.join(10)


def run_of(conductor: Conductor) -> str:
    return str(conductor.database.read("SELECT run_id FROM runs")[0][0])


def beat(conductor: Conductor, *asking: Holder) -> None:
    holders = [{**holder.model_dump(), "asks": True} for holder in asking]
    facts = {"host": "here", "services": [SERVICE], "classes": {"cpu": 2}, "busy": {}, "code": {}}
    conductor.watch.hear_worker({"worker_id": WORKER, "holders": holders, **facts})


def holder(conductor: Conductor, nonce: str) -> Holder:
    name = attempt_id(run_of(conductor), "a", "plan0", 0, 1)
    return Holder(attempt_id=name, fence=1, nonce=nonce, worker=WORKER)


def bind(conductor: Conductor, who: Holder) -> None:
    run_id = run_of(conductor)
    data = AttemptStarted(run_id=run_id, stage="a", phase="plan", index=0, holder=who, asks=True)
    conductor.fold_events([make_event(data, source="test", subject=run_id)])


def test_who_is_bound_is_told_to_hold_and_every_other_to_stop(
    conductor: Conductor, orders: list[dict[str, Any]]
) -> None:
    first, second = holder(conductor, "first"), holder(conductor, "second")
    beat(conductor, first, second)  # nobody has begun, by what is journalled: nothing is said
    bind(conductor, first)
    beat(conductor, first, second)
    wait_until(lambda: bool(orders))
    assert [h["nonce"] for h in orders[0]["hold"]] == ["first"]
    assert [h["nonce"] for h in orders[0]["stop"]] == ["second"]


def test_who_asks_for_what_is_no_longer_open_is_told_to_stop(
    conductor: Conductor, orders: list[dict[str, Any]]
) -> None:
    gone = holder(conductor, "gone").model_copy(update={"attempt_id": "run_x.a.plan0.0.1"})
    beat(conductor, gone)
    wait_until(lambda: bool(orders))
    assert "hold" not in orders[0]
    assert [h["nonce"] for h in orders[0]["stop"]] == ["gone"]


def test_a_command_that_somebody_holds_is_not_late_though_its_start_was_not_heard(conductor: Conductor) -> None:
    conductor.watch = Watch(conductor.settings, conductor.database, conductor.bus, start_deadline_s=0)
    held = holder(conductor, "first")
    conductor.watch.hear_echo()
    assert conductor.watch.look("c") == ([], [])  # from here on, silence counts
    for is_held in (True, False):
        deadline = time.monotonic() + conductor.settings.lease_s + 0.2
        while time.monotonic() < deadline:
            conductor.watch.hear_echo()
            beat(conductor, *([held] if is_held else []))
            _, late = conductor.watch.look("c")
            assert not (late and is_held)
            time.sleep(0.05)
    assert [task.key.stage for task in late] == ["a"]
