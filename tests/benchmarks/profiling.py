"""Where a running process spends its time, by py-spy: installed into an environment of its own when first asked for."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PY_SPY = "py-spy==0.4.1"
RATE_HZ = 200


@contextmanager
def profiled(pid: int, path: Path) -> Iterator[None]:
    """Sample all threads that hold a core while the block runs; write folded stacks, a line each with its samples."""
    command = [_py_spy(), "record", "--pid", pid, "--output", path, "--format", "raw", "--rate", RATE_HZ, "--threads"]
    sampler = subprocess.Popen([str(c) for c in [*command, "--nonblocking"]], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)  # at which it writes what it has
        sampler.wait(30)


def _py_spy() -> Path:
    folder = Path(tempfile.gettempdir()) / "millrace-benchmarks" / PY_SPY
    if not (folder / "bin" / "py-spy").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", PY_SPY], check=True, stdout=sys.stderr)
    return folder / "bin" / "py-spy"
