"""What tests of bad input share: commands as a user types them, and what an answer to a bad one must and must not hold."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.cli.__main__ import main

NEVER = ("Traceback", "most recent call", 'File "/', "site-packages", "[Errno", "object at 0x", "errors.pydantic.dev")
"""What no user may see: a stack, or the inside of a library."""

HEAD = "api: millrace/v1\nname: bad\nparams:\n  data: {type: dataset, default: rows.csv}\nstages:\n"
CLEAN = "  clean: {with: {target: label, task: tabular_classification}}\n"
TRAIN = "  train: {with: {epochs: 2}}\n"
ROWS = "n,x,label\n" + "".join(f"{i},{i / 3},{'ab'[i % 2]}\n" for i in range(60))

COMMAND = (sys.executable, "-m", "millrace.cli")


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> None:
        """Check that it ended with this code and a message that holds all these words, and shows no inside of ours."""
        text = self.out + self.err
        assert self.code == code, text
        assert not [word for word in words if word not in text], text
        assert not [trace for trace in NEVER if trace in text], text
        assert "error" in self.err.lower() or "millrace " in self.err, text


@dataclass(frozen=True)
class Terminal:
    """A user's directory, and commands typed in it.

    Attributes:
        directory: Where relative paths start.
        url: Of the gateway that commands talk to.
    """

    directory: Path
    url: str

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file there; return its path."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def pipeline(self, stages: str, *, head: str = HEAD) -> str:
        """Write a pipeline of these stages, with good rows beside it; return its path."""
        self.write("rows.csv", ROWS)
        return self.write("pipeline.yaml", head + stages)

    def __call__(self, *arguments: str) -> Outcome:
        """Run one command in this process, which is what `millrace` does less the start of Python."""
        out, err = io.StringIO(), io.StringIO()
        before = os.environ.get("MILLRACE_URL")
        os.environ["MILLRACE_URL"] = self.url
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(arguments)
        finally:
            os.environ.pop("MILLRACE_URL")
            if before is not None:
                os.environ["MILLRACE_URL"] = before
        return Outcome(code, out.getvalue(), err.getvalue())


def in_process_of_its_own(*arguments: str, environment: Mapping[str, str], limit_s: float = 60) -> Outcome:
    """Run one command as a process; a process that does not end within the limit fails the test."""
    done = subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=limit_s, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)
