"""Ctrl-C at every stage of a run: it is cancelled, the command ends with 130, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from bad_inputs import COMMAND, NEVER, Terminal
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 60.0
STAGES = ["clean", "train", "evaluate", "optimize", "evaluate_optimized", "deploy"]


def interrupted(arguments: list[str], *, at: str, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command, send it SIGINT when a line of its output holds `at`; return its exit code and all it said."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    said = []
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said.append(line)
            if at and at in line:
                at = ""
                process.send_signal(signal.SIGINT)
    code = process.wait()
    watchdog.cancel()
    return code, "".join(said)


def attempts_of(pid: int) -> list[psutil.Process]:
    """Processes below a factory that work on a run: their title names it."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if " of run_" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_run_is_cancelled_and_leaves_no_process(
    millrace: Terminal, shared_factory: Factory, digits: Path, stage: str
) -> None:
    url = {"MILLRACE_URL": shared_factory.client.url}
    code, said = interrupted(
        ["run", str(digits), "--no-cache", "--label", f"interrupted={stage}"], at=f"{stage}: running", environment=url
    )
    assert code == 130, said
    assert "Interrupted." in said
    assert not [trace for trace in NEVER if trace in said], said
    run = shared_factory.client.runs(label=("interrupted", stage)).runs[0]
    ended_first = stage == "deploy" and run.status == "succeeded"  # a release that was accepted is not undone
    assert run.status == "cancelled" or ended_first, said
    _wait_for_no_attempts(shared_factory.pid)


def test_an_interrupted_command_takes_its_own_factory_with_it(digits: Path, tmp_path: Path) -> None:
    """Without a running factory `run` starts one; Ctrl-C ends both, and nothing of the home goes on."""
    home = tmp_path / "home"
    code, said = interrupted(
        ["run", str(digits), "--no-cache"], at="train: running", environment={"MILLRACE_HOME": str(home)}
    )
    assert code == 130, said
    assert not [trace for trace in NEVER if trace in said], said
    assert not _processes_of(home)


def test_an_interrupted_factory_ends_cleanly(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, said = interrupted(["up"], at="Factory ready", environment=environment_of(Settings(home=home)))
    assert code == 0, said
    assert not [trace for trace in NEVER if trace in said], said
    assert not _processes_of(home)


def test_a_service_that_is_interrupted_ends_cleanly(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, said = interrupted(["worker", "cleaning"], at="worker_ready", environment=environment_of(Settings(home=home)))
    assert code == 0, said
    assert not [trace for trace in NEVER if trace in said], said
    assert not _processes_of(home)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of the example on its data, with one epoch of training and a gate that lets it pass."""
    folder = EXAMPLES / "digits"
    if not list(folder.glob("data/*.parquet")):
        subprocess.run([*COMMAND[:1], str(folder / "make_data.py")], check=True)
    text = (folder / "pipeline.yaml").read_text()
    short = text.replace("data/digits.parquet", str(next(folder.glob("data/*.parquet"))))
    short = short.replace("train: {}", "train: {with: {epochs: 1}}").replace("accuracy >= 0.95", "accuracy >= 0.1")
    path = tmp_path_factory.mktemp("digits") / "pipeline.yaml"
    path.write_text(short.replace("accuracy_drop <= 0.01, size_ratio <= 0.5", "size_ratio <= 1"))
    return path


def _wait_for_no_attempts(pid: int) -> None:
    deadline = time.monotonic() + 20
    while left := attempts_of(pid):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.1)


def _processes_of(home: Path) -> list[str]:
    """Command lines of processes that were started for a home and still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MILLRACE_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
