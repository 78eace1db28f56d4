"""Where a running process spends its time, by py-spy: installed into an environment of its own when first asked for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PY_SPY = "py-spy==0.4.1"
RATE_HZ = 100
SECONDS = 5
"""How long is sampled, from the beginning of the block. Asked to end by a signal, py-spy on busy cores did not."""


@contextmanager
def profiled(pid: int, path: Path) -> Iterator[None]:
    """Sample all threads that hold a core while the block runs; write folded stacks, a line each with its samples."""
    command = [_py_spy(), "record", "--pid", pid, "--output", path, "--format", "raw", "--rate", RATE_HZ, "--threads"]
    command += ["--nonblocking", "--duration", SECONDS]
    sampler = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        sampler.wait(4 * SECONDS)
    finally:
        sampler.kill()
        sampler.wait()


def _py_spy() -> Path:
    folder = Path(tempfile.gettempdir()) / "millrace-benchmarks" / PY_SPY
    if not (folder / "bin" / "py-spy").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", PY_SPY], check=True, stdout=sys.stderr)
    return folder / "bin" / "py-spy"
