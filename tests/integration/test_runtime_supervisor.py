"""The supervisor with real processes: what dies comes back, what is stopped leaves nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace import errors
from millrace.runtime.factory import factory_lock, find_factory
from millrace.runtime.rotation import RotatingLog
from millrace.runtime.supervisor import MAX_EARLY_DEATHS
from probes.worker import is_alive

SUPERVISOR = """
import json, sys
from pathlib import Path
from millrace import errors
from millrace.runtime.supervisor import ProcessSpec, Supervisor
specs = [ProcessSpec(name, (sys.executable, "-c", code)) for name, code in json.loads(sys.argv[2]).items()]
parent_fd = int(sys.argv[3]) if sys.argv[3] else None
try:
    sys.exit(Supervisor(specs, home=Path(sys.argv[1]), parent_fd=parent_fd, stop_s=float(sys.argv[4])).run())
except errors.MillraceError as error:
    sys.exit(f"told: {error}")
"""

NOTE_PID = "import os, time, pathlib; open({path!r}, 'a').write(str(os.getpid()) + chr(10)); "
SLEEP = NOTE_PID + "time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
STRAY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True); " + (
    "import time; time.sleep(60)"
)


@contextmanager
def supervised(
    home: Path, *, parent_fd: int | None = None, stop_s: float = 2, **codes: str
) -> Iterator[subprocess.Popen[str]]:
    parent, fds = ("", ()) if parent_fd is None else (str(parent_fd), (parent_fd,))
    command = [sys.executable, "-c", SUPERVISOR, str(home), json.dumps(codes), parent, str(stop_s)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=fds, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(holds: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    noted = tmp_path / "pids"
    with supervised(tmp_path, a=SLEEP.format(path=str(noted))):
        wait_for(lambda: len(pids(noted)) == 1)
        os.kill(pids(noted)[0], signal.SIGKILL)
        wait_for(lambda: len(pids(noted)) == 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_is_killed_again_and_again_is_started_every_time(tmp_path: Path, number: signal.Signals) -> None:
    noted = tmp_path / "pids"
    with supervised(tmp_path, a=SLEEP.format(path=str(noted))) as supervisor:
        for kills in range(MAX_EARLY_DEATHS + 1):
            wait_for(lambda kills=kills: len(pids(noted)) == kills + 1)  # type: ignore[misc]  # bound at once
            os.kill(pids(noted)[-1], number)
        assert supervisor.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_and_exits_0(tmp_path: Path, number: signal.Signals) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with supervised(tmp_path, a=SLEEP.format(path=str(first)), b=STUBBORN.format(path=str(second))) as supervisor:
        wait_for(lambda: pids(first) and pids(second))
        supervisor.send_signal(number)
        assert supervisor.wait(timeout=20) == 0
        assert not any(is_alive(pid) for pid in pids(first) + pids(second))


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    noted = tmp_path / "pids"
    with supervised(tmp_path, stop_s=60, a=STUBBORN.format(path=str(noted))) as supervisor:
        wait_for(lambda: pids(noted))
        supervisor.send_signal(signal.SIGINT)
        time.sleep(0.3)
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(timeout=5) == 0
        assert not is_alive(pids(noted)[0])


def test_what_a_process_left_behind_ends_too(tmp_path: Path) -> None:
    noted = tmp_path / "pids"
    with supervised(tmp_path, a=STRAY.format(inner=SLEEP.format(path=str(noted)))) as supervisor:
        wait_for(lambda: pids(noted))
        supervisor.terminate()
        supervisor.wait(timeout=20)
        assert not is_alive(pids(noted)[0])


def test_the_parents_end_is_a_stop(tmp_path: Path) -> None:
    noted = tmp_path / "pids"
    reading, writing = os.pipe()
    with supervised(tmp_path, parent_fd=reading, a=SLEEP.format(path=str(noted))) as supervisor:
        os.close(reading)
        wait_for(lambda: pids(noted))
        os.close(writing)
        assert supervisor.wait(timeout=20) == 0


def test_a_process_that_cannot_start_ends_all_with_its_last_words(tmp_path: Path) -> None:
    noted = tmp_path / "pids"
    broken = "import sys; print('MILLRACE_STORE_URL: expected a URL', file=sys.stderr); sys.exit(2)"
    with supervised(tmp_path, a=SLEEP.format(path=str(noted)), b=broken) as supervisor:
        _, said = supervisor.communicate(timeout=30)
        assert supervisor.returncode == 1
        assert "MILLRACE_STORE_URL: expected a URL" in said.splitlines()[-1]
        assert not any(is_alive(pid) for pid in pids(noted))


def test_a_service_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, time; from millrace.runtime import guard; from millrace.runtime.supervisor import SUPERVISED; "
        "guard.die_with_parent(int(os.environ[SUPERVISED]), signal.SIGTERM); "
    ) + SLEEP.format(path=str(tmp_path / "pids"))
    with supervised(tmp_path, a=code) as supervisor:
        wait_for(lambda: pids(tmp_path / "pids"))
        supervisor.kill()
        wait_for(lambda: not is_alive(pids(tmp_path / "pids")[0]), timeout_s=5)


def test_output_goes_to_a_log_of_the_processs_name(tmp_path: Path) -> None:
    with supervised(tmp_path, talker="import time; print('one', flush=True); time.sleep(60)"):
        wait_for(lambda: (tmp_path / "logs/talker.log").exists())
        wait_for(lambda: (tmp_path / "logs/talker.log").read_text() == "one\n")


def test_a_log_is_rotated_and_its_oldest_lines_forgotten(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", max_bytes=100, num_old=2)
    for number in range(100):
        log.write(b"line %03d\n" % number)
    log.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["a.log", "a.log.1", "a.log.2"]
    assert (tmp_path / "a.log").read_bytes().endswith(b"line 099\n")
    assert log.last_line == "line 099"


def test_a_full_disk_costs_a_log_lines_and_it_says_how_many(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12, limits[1]))  # as a disk that fills amid the third line
    try:
        assert log.write(b"one\ntwo\nthree and more\nfour\n") == [b"one", b"two", b"three and more", b"four"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (log.last_line, (tmp_path / "a.log").read_text()) == ("four", "one\ntwo\n")
    log.write(b"five\n")
    log.close()
    assert (tmp_path / "a.log").read_text().splitlines()[2:] == ['{"event": "log_lines_lost", "lines": 2}', "five"]


def test_a_home_has_one_factory(tmp_path: Path) -> None:
    assert find_factory(tmp_path) is None
    with factory_lock(tmp_path, url="http://127.0.0.1:8470"):
        found = find_factory(tmp_path)
        assert found is not None
        assert (found["url"], found["pid"]) == ("http://127.0.0.1:8470", os.getpid())
        with pytest.raises(errors.Conflict, match=r"already runs in .*8470"), factory_lock(tmp_path, url=""):
            pass
    assert find_factory(tmp_path) is None


def test_the_lock_of_a_killed_factory_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from millrace.runtime.factory import factory_lock\n"
        "with factory_lock(Path(sys.argv[1]), url='http://x'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "factory.json").exists()
    assert find_factory(tmp_path) is None
    with factory_lock(tmp_path, url="http://y"):
        assert find_factory(tmp_path) is not None
