"""A worker's directory: what a killed worker's successor finds, and when it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from millrace.contracts.events import Holder
from millrace.runtime.workdirs import Record, bury_dead, own_workdir
from probes.worker import make_command


def holder(nonce: str) -> Holder:
    return Holder(attempt_id="run_a.probe.plan0.0.1", fence=1, nonce=nonce, worker="wrk_a")


def be_killed_at_work(home: Path, *nonces: str) -> None:
    """Hold some attempts in a process that is killed."""

    def work() -> None:
        with own_workdir(home, "wrk_a") as workdir:
            for nonce in nonces:
                workdir.note(make_command(run_id="run_a"), holder(nonce))
            workdir.forget(holder(nonces[0]))
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def found(home: Path, *, reported: bool = True) -> list[str]:
    records: list[Record] = []

    def report(record: Record) -> bool:
        records.append(record)
        return reported

    def bury(worker: str) -> None:
        (home / "buried").write_text(worker)

    bury_dead(home, report, buried=bury)
    return [record.subject.holder.nonce for record in records]


def test_a_successor_finds_whom_a_killed_worker_held_once(tmp_path: Path) -> None:
    be_killed_at_work(tmp_path, "ended", "b", "c")
    assert found(tmp_path) == ["b", "c"]
    assert (tmp_path / "buried").read_text() == "wrk_a"
    assert found(tmp_path) == []
    assert list((tmp_path / "work").iterdir()) == []


def test_what_could_not_be_reported_is_left_for_another(tmp_path: Path) -> None:
    be_killed_at_work(tmp_path, "ended", "b")
    assert found(tmp_path, reported=False) == ["b"]
    assert not (tmp_path / "buried").exists()
    assert found(tmp_path) == ["b"]


def test_a_record_that_was_half_written_is_passed_over(tmp_path: Path) -> None:
    be_killed_at_work(tmp_path, "ended", "b")
    (tmp_path / "work" / "wrk_a" / "a.holder").write_text('{"tenant": "def')
    assert found(tmp_path) == ["b"]


def test_a_worker_that_lives_is_left_alone(tmp_path: Path) -> None:
    with own_workdir(tmp_path, "wrk_a") as workdir:
        workdir.note(make_command(), holder("b"))
        assert found(tmp_path) == []
        workdir.forget(holder("b"))
    assert list((tmp_path / "work").iterdir()) == []


def test_what_a_worker_leaves_unconfirmed_is_found_by_the_next(tmp_path: Path) -> None:
    with own_workdir(tmp_path, "wrk_a") as workdir:
        workdir.note(make_command(), holder("b"))
    assert found(tmp_path) == ["b"]
