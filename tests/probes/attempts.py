"""One attempt in this process's thread, without a worker and a bus."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from millrace.contracts.commands import ExecuteAttempt
from millrace.runtime.attempt import Attempt, Ending
from millrace.runtime.child import settings_values
from millrace.runtime.launched import Launched
from millrace.settings import Settings
from probes.worker import make_command


def run(
    launched: Launched, home: Path, *, command: ExecuteAttempt | None = None,
    meanwhile: Callable[[Attempt], None] = lambda _: None, **config: object,
) -> tuple[Ending, Attempt]:  # fmt: skip
    """Execute one attempt of the probe, by its command or its configuration. meanwhile is called just before."""
    attempt = Attempt(command or make_command(**config), launched, log_path=home / "log", emit=lambda *_: None)
    meanwhile(attempt)
    try:
        return attempt.run(request(attempt, home)), attempt
    finally:
        attempt.close()
        attempt.log.remove()
        shutil.rmtree(home / "work", ignore_errors=True)  # as a worker does after a child that was killed


def request(attempt: Attempt, home: Path) -> dict[str, object]:
    return {
        "command": attempt.command.model_dump(mode="json"), "nonce": "n", "checkpoint": None,
        "settings": settings_values(Settings(home=home)),
        "workdir": str(home / "work"), "device": "cpu", "num_threads": 1,
    }  # fmt: skip


def outcome(ending: Ending) -> str:
    assert ending.outcome is not None, ending.error
    return str(ending.outcome["type"])
