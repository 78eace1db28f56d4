"""Recording what a workload and all its processes write, with strace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chaos.power_loss.disk import Disk
from chaos.power_loss.operations import TRACED, Operation, parse
from servers.process import program

TESTS = Path(__file__).parents[2]
MAX_WRITE_BYTES = 8 * 2**20
LIMIT_S = 240
MARKS = "marks"
"""A file beside the recorded home: a line for each thing that was promised to a caller, written after the answer."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A log of operations below a folder, which holds what came of them: the factory's `home`, and the `marks`."""

    folder: Path
    operations: list[Operation]

    def promises(self, until: int) -> list[list[str]]:
        """Words of the marks that were made by the first operations."""
        text = b"".join(o.data for o in self.operations[:until] if o.path == MARKS and o.kind == "write")
        return [line.split() for line in text.decode().splitlines()]

    def until(self, until: int) -> Disk:
        """The disk after so many operations."""
        disk = Disk()
        for operation in self.operations[:until]:
            disk.apply(operation)
        return disk


def record(folder: Path, workload: str, *arguments: str) -> Recording:
    """Run a module of this package below folder and return what it and its children did there.

    Raises:
        MissingProgram: There is no strace.
    """
    log = folder.with_suffix(".strace")
    folder.mkdir(parents=True)
    strace: list[str | Path] = [
        program("strace"), "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(MAX_WRITE_BYTES), "-e", f"trace={TRACED}",
        "-e", "signal=none", "-o", log,
    ]  # fmt: skip
    command: list[str | Path] = [sys.executable, "-m", f"chaos.power_loss.{workload}", folder, *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([*strace, *command], check=True, timeout=LIMIT_S, cwd=TESTS, env=environment)
    with log.open(errors="replace") as lines:
        recording = Recording(folder, sorted(parse(lines, folder.resolve()), key=lambda o: o.ended))
    log.unlink()
    return recording


def mark(folder: Path, *words: str) -> None:
    """Note a promise, in one write."""
    descriptor = os.open(folder / MARKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (" ".join(words) + "\n").encode())
    finally:
        os.close(descriptor)
