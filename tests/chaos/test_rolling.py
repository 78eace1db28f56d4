"""What is no death: an orderly restart of every process under load, one after the other, and a nap of them all."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import victims
from chaos.hosts import SETTINGS, Target, running_target
from chaos.submitting import Users, modelled
from millrace import Client, Pipeline, Run
from millrace.contracts.views import EventView
from millrace.runtime.guard import descendants
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace.testing.checker import check

pytestmark = pytest.mark.timeout(300)

GRACE_S = 4.0
"""The no-ops that come in meanwhile end within it; a training does not, and hands back its checkpoint."""

STEPS = 2_000
NUM_TASKS = 4
NAP_S = 0.5 * float(SETTINGS["MILLRACE_LEASE_S"])
REST_S = 30.0


def test_an_orderly_restart_of_all_processes_loses_nothing_and_wastes_no_attempt(
    stack_settings: Settings, rows: Path
) -> None:
    with running_target(stack_settings, MILLRACE_GRACE_S=str(GRACE_S)) as target, Client(target.urls[0]) as client:
        training = client.submit(modelled("rolling", steps=STEPS, checkpoint_every_s=1), data=rows)
        wait_for(lambda: has_checkpoint(stack_settings, training))
        with users_at_work(target) as users:
            for kind in ("worker", "conductor", "gateway", "serve"):
                for root in target.roots if kind != "serve" else target.roots[:1]:
                    restart(root, kind)
        assert set(users.ends(limit_s=90).values()) == {"succeeded"}
        assert training.wait_end(timeout_s=90).status == "succeeded"
        told = training.events()
        assert check(target.settings, accepted=[*users.runs, training.id], patience_s=REST_S) == []
        wasted = [e.data["error"] for r in users.runs for e in client.run(r).events() if e.type == "attempt.failed.v1"]
        assert wasted == []
    handed_back = [e.data["checkpoint"] for e in told if e.type == "attempt.yielded.v1" and e.data["stage"] == "train"]
    assert handed_back
    assert None not in handed_back
    assert [e.data["error"] for e in told if e.type == "attempt.failed.v1"] == []


def test_nobody_is_taken_for_dead_who_is_stopped_for_half_a_lease(embedded_settings: Settings) -> None:
    with running_target(embedded_settings) as target, Client(target.urls[0]) as client:
        stages = {"wait": {"kind": "noop", "with": {"num_tasks": NUM_TASKS, "sleep_s": 3 * NAP_S}}}
        run = client.submit(Pipeline.from_dict({"api": "millrace/v1", "name": "naps", "stages": stages}))
        wait_for(lambda: len(starts(run)) >= NUM_TASKS)
        for kind in ("worker", "conductor"):  # one by one, then whole hosts
            nap([victims.find([root])[kind][0] for root in target.roots])
        nap([pid for root in target.roots for pid in descendants(root)])
        assert run.wait(timeout_s=60).status == "succeeded"
        times = Counter((e.data["phase"], e.data["index"]) for e in starts(run))
        assert set(times.values()) == {1}
        assert check(target.settings, accepted=[run.id], patience_s=REST_S) == []


@contextmanager
def users_at_work(target: Target) -> Iterator[Users]:
    calm, users = threading.Event(), Users(target.urls, seed=0, data=None)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(users.submit_until, calm)
        try:
            yield users
        finally:
            calm.set()
    working.result()


def restart(root: int, kind: str) -> None:
    """Tell a process to stop, as whoever upgrades it does, and wait until another is in its place."""
    wait_for(lambda: kind in victims.find([root]))
    [before] = victims.find([root])[kind]
    victims.send(before, signal.SIGTERM)
    wait_for(lambda: victims.find([root]).get(kind, [before]) != [before])


def nap(pids: Sequence[int]) -> None:
    for number, pause_s in ((signal.SIGSTOP, NAP_S), (signal.SIGCONT, 0.5)):
        for pid in pids:
            victims.send(pid, number)
        time.sleep(pause_s)


def starts(run: Run) -> list[EventView]:
    return [e for e in run.events() if e.type == "attempt.started.v1"]


def has_checkpoint(settings: Settings, run: Run) -> bool:
    head = open_store(settings, tenant=settings.tenant).read_ref(f"tasks/{run.id}/train/plan0/0")
    return head is not None and head.target["checkpoint"] is not None


def wait_for(claim: Callable[[], bool], *, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
