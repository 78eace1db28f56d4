"""Guards and zygotes with real processes, without a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness import cpu_seconds
from millrace.runtime.channel import Channel
from millrace.runtime.launched import Launched
from millrace.runtime.launcher import Launcher
from probes.attempts import outcome, run
from probes.worker import PLUGIN, is_alive

MODULES = ("probe_stage",)


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    made = Launcher(env={"PYTHONPATH": str(PLUGIN)}, warm_s=0.3)
    yield made
    made.close()


def test_attempts_share_a_zygote_and_have_a_child_each(launcher: Launcher, tmp_path: Path) -> None:
    first, a = run(launcher.launch_warm(MODULES), tmp_path)
    second, b = run(launcher.launch_warm(MODULES), tmp_path)
    assert (outcome(first), outcome(second)) == ("succeeded", "succeeded")
    assert len(launcher.zygotes) == 1
    assert a.child_pid != b.child_pid


def test_an_idle_zygote_leaves_and_the_next_attempt_has_a_new_one(launcher: Launcher, tmp_path: Path) -> None:
    run(launcher.launch_warm(MODULES), tmp_path)
    (before,) = launcher.zygotes.values()
    time.sleep(0.4)
    launcher.let_idle_go()
    assert not launcher.zygotes
    assert outcome(run(launcher.launch_warm(MODULES), tmp_path)[0]) == "succeeded"
    assert list(launcher.zygotes.values()) != [before]
    assert not is_alive(before)


def test_a_killed_zygote_is_replaced(launcher: Launcher, tmp_path: Path) -> None:
    run(launcher.launch_warm(MODULES), tmp_path)
    (pid,) = launcher.zygotes.values()
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    assert outcome(run(launcher.launch_warm(MODULES), tmp_path)[0]) == "succeeded"


def test_an_attempt_outlives_its_zygote(launcher: Launcher, tmp_path: Path) -> None:
    launched = launcher.launch_warm(MODULES)
    assert launched.control.recv(4096)  # the child has been forked
    launcher.close()
    assert outcome(run(launched, tmp_path, do="sleep", seconds=0.5)[0]) == "succeeded"


def test_a_fresh_process_has_its_own_environment(launcher: Launcher, tmp_path: Path) -> None:
    launched = launcher.launch_fresh({"PROBE_WORD": "fresh"})
    assert outcome(run(launched, tmp_path, do="mark", path=str(tmp_path / "word"))[0]) == "succeeded"
    assert (tmp_path / "word").read_text() == "fresh"


def test_a_child_dies_with_its_guard(launcher: Launcher, tmp_path: Path) -> None:
    launched = launcher.launch_warm(MODULES)
    child = json.loads(launched.control.recv(4096))["pid"]
    guard = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    ending, _ = run(launched, tmp_path)
    assert ending.error is not None
    assert ending.error.code == "worker_lost"
    deadline = time.monotonic() + 2  # the kernel signals the child just after the guard's sockets have closed
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_module_that_cannot_be_imported_fails_the_attempt_and_not_the_zygote(
    launcher: Launcher, tmp_path: Path
) -> None:
    ending, _ = run(launcher.launch_warm(("no_such_module",)), tmp_path, kind="no_such_kind")
    assert ending.outcome is not None
    assert ending.outcome["error"]["code"] == "invalid_spec"


def test_peak_memory_is_the_childs(launcher: Launcher, tmp_path: Path) -> None:
    ending, _ = run(launcher.launch_warm(MODULES), tmp_path)
    assert 10 * 2**20 < ending.peak_memory_bytes < 500 * 2**20


def test_the_cpu_time_of_attempts_that_have_ended_counts(launcher: Launcher, tmp_path: Path) -> None:
    """A process that ignores SIGCHLD would have it forgotten, and benchmarks would count too little."""
    run(launcher.launch_warm(MODULES), tmp_path)
    before = cpu_seconds(list(launcher.zygotes.values()))
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert outcome(run(launcher.launch_warm(MODULES), tmp_path, do="code", code=busy)[0]) == "succeeded"
    deadline = time.monotonic() + 5  # the guard ends just after its report
    while cpu_seconds(list(launcher.zygotes.values())) - before < 0.4:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"exit_code": None, "signal": 9, "oom_kills": 2**40}, "resource_exhausted"),
        ({"exit_code": None, "signal": 9, "oom_kills": 0}, "worker_lost"),
        ({"exit_code": 0, "signal": None, "oom_kills": 2**40}, "worker_lost"),
    ],
)
def test_a_kill_for_want_of_memory_is_told_from_other_ends(
    report: dict[str, object], code: str, tmp_path: Path
) -> None:
    control, guard = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, child = socket.socketpair()
    reading, writing = os.pipe2(os.O_NONBLOCK)
    guard.send(json.dumps({"peak_memory_bytes": 2**30, "killed": False, **report}).encode())
    ending, _ = run(Launched(control, Channel(channel), reading), tmp_path)
    assert ending.error is not None
    assert ending.error.code == code
    for end in (guard, child):
        end.close()
    os.close(writing)
