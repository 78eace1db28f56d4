"""Warm children: who may follow whom in one process, and what an attempt cannot leave to the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from millrace.contracts.events import AttemptStarted, AttemptSucceeded
from millrace.runtime import launched as launched_module
from millrace.runtime.attempt import Attempt
from millrace.runtime.launched import Launched
from millrace.runtime.launcher import Launcher
from millrace.settings import Settings
from millrace.store.artifacts import read_manifest
from millrace.store.connect import open_store
from probes.attempts import outcome, request, run
from probes.worker import PLUGIN, is_alive, make_command, running_factory

MODULES = ("probe_stage",)


@dataclass(frozen=True)
class Done:
    """An attempt that succeeded: in which child, and what its log holds."""

    attempt_id: str
    child_pid: int
    log: str


Warm = Callable[..., Done]


@pytest.fixture(scope="module")
def with_zygote() -> Iterator[Launcher]:
    """One zygote for all, which takes a second to start."""
    made = Launcher(env={"PYTHONPATH": str(PLUGIN)}, warm_s=60)
    yield made
    made.close()


@pytest.fixture
def launcher(with_zygote: Launcher) -> Iterator[Launcher]:
    """A launcher with no warm children."""
    yield with_zygote
    with_zygote._pool.close()


@pytest.fixture
def warm(launcher: Launcher, tmp_path: Path) -> Warm:
    """Runs some code as an attempt that may share its child, and must succeed."""

    store = open_store(Settings(home=tmp_path))

    def made(code: str = "") -> Done:
        attempt = Attempt(make_command(do="code", code=code), take(launcher), log_path=tmp_path / "log", emit=ignore)
        ending = attempt.run(request(attempt, tmp_path))
        attempt.close()
        kept = attempt.log.store(store)
        assert outcome(ending) == "succeeded", ending.outcome
        log = store.get_bytes(read_manifest(store, kept.digest).files[0].digest).decode() if kept else ""
        return Done(attempt.command.attempt_id, attempt.child_pid, log)

    return made


def ignore(kind: str, payload: Mapping[str, Any]) -> None:
    """Signals are not looked at here."""


def take(launcher: Launcher, tenant: str = "default") -> Launched:
    return launcher.launch_warm(MODULES, tenant=tenant, reuse=True)


def wait_until(holds: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def guard_of(child: int) -> int:
    return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


# --- who shares a child


def test_short_attempts_share_a_child(warm: Warm) -> None:
    assert warm().child_pid == warm().child_pid


def test_tenants_do_not_share_a_child(launcher: Launcher, tmp_path: Path) -> None:
    _, first = run(take(launcher, "ours"), tmp_path)
    _, second = run(take(launcher, "theirs"), tmp_path)
    assert first.child_pid != second.child_pid


def test_a_failed_attempt_leaves_its_child_to_the_next(launcher: Launcher, warm: Warm, tmp_path: Path) -> None:
    ending, failed = run(take(launcher), tmp_path, do="raise")
    assert outcome(ending) == "failed"
    assert warm().child_pid == failed.child_pid


def test_a_users_function_ends_its_child(launcher: Launcher, tmp_path: Path) -> None:
    run(take(launcher), tmp_path, kind="function")
    assert launcher.num_idle == 0


def test_a_long_attempt_ends_its_child(launcher: Launcher, warm: Warm) -> None:
    warm("import time; time.sleep(1.1)")
    assert launcher.num_idle == 0


def test_a_child_is_replaced_after_a_number_of_attempts(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched_module, "MAX_ATTEMPTS", 2)
    children = [warm().child_pid for _ in range(4)]
    assert children[0] == children[1] != children[2] == children[3]


def test_an_idle_child_leaves(tmp_path: Path) -> None:
    launcher = Launcher(env={"PYTHONPATH": str(PLUGIN)}, warm_s=0.2)
    _, attempt = run(take(launcher), tmp_path)
    guard = guard_of(attempt.child_pid)
    time.sleep(0.25)
    launcher.let_idle_go()
    wait_until(lambda: not is_alive(attempt.child_pid) and not is_alive(guard))
    launcher.close()


def test_of_too_many_idle_children_the_longest_idle_leaves(tmp_path: Path) -> None:
    launcher = Launcher(env={"PYTHONPATH": str(PLUGIN)}, warm_s=30, max_idle=1)
    _, first = run(take(launcher, "ours"), tmp_path)
    _, second = run(take(launcher, "theirs"), tmp_path)
    wait_until(lambda: not is_alive(first.child_pid))
    assert is_alive(second.child_pid)
    launcher.close()


@pytest.mark.parametrize(("reuse", "num_children"), [("true", 1), ("false", 3)])
def test_a_worker_shares_children_unless_it_is_told_not_to(reuse: str, num_children: int, tmp_path: Path) -> None:
    note = f"import os; print(os.getpid(), file=open({str(tmp_path / 'pids')!r}, 'a'))"
    with running_factory(Settings(home=tmp_path / "home"), MILLRACE_REUSE=reuse, MILLRACE_SLOTS="1") as factory:
        for _ in range(3):
            factory.send(do="code", code=note)
            while not isinstance(event := factory.next_event(), AttemptSucceeded):
                assert isinstance(event, AttemptStarted), event
    assert len(set((tmp_path / "pids").read_text().split())) == num_children


# --- what an attempt leaves


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.environ['LEFT'] = 'behind'",
        "import os; os.umask(0o070)",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "import signal; signal.alarm(3600)",
        "import sys; sys.path.append('/left/behind')",
        "import sys; sys.stdout = open('/dev/null', 'w')",
        "import sys; sys.stdout.close()",
        "import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "import builtins; builtins.left = bytearray(b'x') * (200 << 20)",
    ],
)
def test_a_process_that_was_changed_serves_nobody_else(code: str, launcher: Launcher, warm: Warm) -> None:
    warm(code)
    assert launcher.num_idle == 0


def test_the_working_directory_is_the_attempts_own(warm: Warm, tmp_path: Path) -> None:
    look = f"import os; print(os.getcwd(), os.listdir(), file=open({str(tmp_path / 'seen')!r}, 'a'))"
    first = warm("open('mine', 'w').close(); import os; os.chdir('/')")
    assert warm(look).child_pid == first.child_pid
    assert (tmp_path / "seen").read_text() == f"{tmp_path / 'work'} []\n"
    assert not (tmp_path / "work").exists()


def test_generators_of_random_numbers_start_anew(warm: Warm, tmp_path: Path) -> None:
    draw = (
        "import random, numpy.random; "
        f"print(random.random(), numpy.random.random(), file=open({str(tmp_path / 'drawn')!r}, 'a'))"
    )
    seed = "import random, numpy.random; random.seed(1); numpy.random.seed(1); "
    attempts = [warm(seed + draw), warm(draw), warm(seed), warm(draw)]
    assert len({attempt.child_pid for attempt in attempts}) == 1
    drawn = [line.split() for line in (tmp_path / "drawn").read_text().splitlines()]
    assert len({row[0] for row in drawn}) == len({row[1] for row in drawn}) == 3


def test_output_stays_with_its_attempt_even_if_a_library_buffers_it(warm: Warm) -> None:
    first = warm("import ctypes; ctypes.CDLL(None).printf(b'from C'); print('no newline', end=' ')")
    second = warm("print('second')")
    assert first.child_pid == second.child_pid
    assert "no newline" in first.log
    assert "from C" in first.log
    assert second.log == "second\n"


def test_a_line_names_the_attempt_that_logged_it_and_nothing_that_another_bound(warm: Warm) -> None:
    first = warm("import structlog; structlog.contextvars.bind_contextvars(left='behind'); context.log.info('said')")
    second = warm("context.log.info('said')")
    assert first.child_pid == second.child_pid
    assert first.attempt_id in first.log
    assert "behind" in first.log
    assert second.attempt_id in second.log
    assert "behind" not in second.log


def test_memory_is_counted_for_each_attempt(launcher: Launcher, tmp_path: Path) -> None:
    large, first = run(take(launcher), tmp_path, do="code", code="bytearray(b'x') * (200 << 20)")
    small, second = run(take(launcher), tmp_path)
    assert first.child_pid == second.child_pid
    assert large.peak_memory_bytes > small.peak_memory_bytes + 150 * 2**20


def test_what_an_attempt_started_is_killed_before_its_end_is_told(launcher: Launcher, tmp_path: Path) -> None:
    stray = tmp_path / "stray"
    ending, _ = run(take(launcher), tmp_path, do="stray", path=str(stray))
    assert outcome(ending) == "succeeded"
    assert not is_alive(int(stray.read_text()))
    assert launcher.num_idle == 0


# --- asking to stop


def test_an_attempt_that_is_asked_to_stop_hears_it_and_why(launcher: Launcher, tmp_path: Path) -> None:
    code = f"""
import time
while not context.stop_requested: time.sleep(0.005)
open({str(tmp_path / "why")!r}, "w").write(context.stop.reason)
"""
    asked = threading.Timer(0.3, lambda: None)

    def ask_soon(attempt: Attempt) -> None:
        asked.function = lambda: attempt.ask("draining")
        asked.start()

    ending, _ = run(take(launcher), tmp_path, meanwhile=ask_soon, do="code", code=code)
    asked.join()
    assert outcome(ending) == "succeeded"
    assert (tmp_path / "why").read_text() == "draining"


def test_who_is_asked_before_the_start_hears_it_too(launcher: Launcher, tmp_path: Path) -> None:
    code = "import time\nwhile not context.stop_requested: time.sleep(0.005)"
    ending, _ = run(take(launcher), tmp_path, meanwhile=lambda a: a.ask("paused"), do="code", code=code)
    assert outcome(ending) == "succeeded"


def test_a_late_word_reaches_no_other_attempt(launcher: Launcher, warm: Warm, tmp_path: Path) -> None:
    first = warm()
    launched = take(launcher)
    launched.channel.send({"type": "stop", "attempt_id": first.attempt_id, "reason": "late"})
    code = "import time; time.sleep(0.05); assert not context.stop_requested"

    def send_another(attempt: Attempt) -> None:
        launched.channel.send({"type": "stop", "attempt_id": first.attempt_id, "reason": "later"})

    ending, second = run(launched, tmp_path, meanwhile=send_another, do="code", code=code)
    assert outcome(ending) == "succeeded"
    assert second.child_pid == first.child_pid


# --- death


def test_a_warm_child_that_is_stopped_dies_at_once(launcher: Launcher, warm: Warm, tmp_path: Path) -> None:
    first = warm()
    began = time.monotonic()
    ending, second = run(take(launcher), tmp_path, meanwhile=stop_soon, do="sleep", seconds=60)
    assert ending.stopped == "cancelled"
    assert second.child_pid == first.child_pid
    assert not is_alive(first.child_pid)
    assert time.monotonic() - began < 2
    assert warm().child_pid != first.child_pid


def stop_soon(attempt: Attempt) -> None:
    threading.Timer(0.2, attempt.stop, ("cancelled",)).start()


def test_a_child_that_died_idle_is_replaced(warm: Warm) -> None:
    first = warm()
    kill_and_wait(first.child_pid)
    assert warm().child_pid != first.child_pid


def test_a_child_whose_guard_died_idle_is_replaced(warm: Warm) -> None:
    first = warm()
    os.kill(guard_of(first.child_pid), signal.SIGKILL)
    wait_until(lambda: not is_alive(first.child_pid))
    assert warm().child_pid != first.child_pid


def test_a_guard_that_is_killed_before_it_heard_a_stop_ends_the_attempt(launcher: Launcher, tmp_path: Path) -> None:
    launched = take(launcher)
    child = json.loads(launched.control.recv(4096))["pid"]
    guard = guard_of(child)
    os.kill(guard, signal.SIGSTOP)

    def stop_and_kill(attempt: Attempt) -> None:
        attempt.stop("cancelled")
        os.kill(guard, signal.SIGKILL)

    ending, _ = run(launched, tmp_path, meanwhile=stop_and_kill, do="sleep", seconds=60)
    assert ending.stopped == "cancelled"
    wait_until(lambda: not is_alive(child))


@pytest.mark.parametrize("is_dead_first", [True, False])
def test_a_child_that_dies_as_it_is_taken_fails_no_attempt(
    is_dead_first: bool, launcher: Launcher, warm: Warm, tmp_path: Path
) -> None:
    first = warm()
    launched = take(launcher)
    if is_dead_first:
        kill_and_wait(first.child_pid)
    else:  # it has the request in its queue, and never reads it
        os.kill(first.child_pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (first.child_pid, signal.SIGKILL)).start()
    ending, second = run(launched, tmp_path)
    assert outcome(ending) == "succeeded"
    assert second.child_pid != first.child_pid


def test_a_child_that_is_killed_at_work_is_reported_in_milliseconds(
    launcher: Launcher, warm: Warm, tmp_path: Path
) -> None:
    first = warm()
    marked = tmp_path / "marked"
    code = f"import time; open({str(marked)!r}, 'w').close(); time.sleep(60)"
    killed_at: list[float] = []

    def kill_at_work() -> None:
        wait_until(marked.exists)
        killed_at.append(time.monotonic())
        os.kill(first.child_pid, signal.SIGKILL)

    ending, _ = run(
        take(launcher), tmp_path, meanwhile=lambda _: threading.Thread(target=kill_at_work).start(),
        do="code", code=code,
    )  # fmt: skip
    took_s = time.monotonic() - killed_at[0]
    assert ending.error is not None
    assert ending.error.code == "worker_lost"
    assert took_s < 0.5


WORKER = """
import sys, time
from pathlib import Path
from typing import Any
from millrace.runtime.launcher import Launcher
from probes.attempts import run
launcher = Launcher(env={}, warm_s=60)
_, attempt = run(launcher.launch_warm(("probe_stage",), reuse=True), Path(sys.argv[1]))
assert launcher.num_idle == 1
print(attempt.child_pid, *launcher.zygotes.values(), flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_killed_worker(tmp_path: Path) -> None:
    path = os.pathsep.join((str(PLUGIN), str(PLUGIN.parents[1])))
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as worker:
        assert worker.stdout is not None
        child, zygote = map(int, worker.stdout.readline().split())
        guard = guard_of(child)
        worker.kill()
    wait_until(lambda: not any(map(is_alive, (child, guard, zygote))), timeout_s=2)
