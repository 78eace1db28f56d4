"""A worker's children: which process executes an attempt, what it is told, and what is heard of it meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace.bus import Bus
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.stages import FUNCTION_KIND, installed_kinds
from millrace.contracts.views import SignalView
from millrace.runtime.attempt import Attempt, Ending
from millrace.runtime.child import settings_values
from millrace.runtime.holdings import Held, Holdings
from millrace.runtime.launched import Launched
from millrace.runtime.launcher import Launcher
from millrace.settings import Settings
from millrace.store.connect import adapter_modules


class Children:
    """Runs attempts in child processes, one per calling thread.

    Args:
        settings: Of the worker, and of its children.
        resource_class: `cpu` or `gpu`.
        num_threads: How many threads an attempt may use if it asks for no more.
        bus: Where progress and log lines go.
        launcher: Has the processes.
        holdings: Where an attempt's child is noted, so that others can tell it to stop.
        workdir: Where attempts' directories are made.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resource_class: str,
        num_threads: int,
        bus: Bus,
        launcher: Launcher,
        holdings: Holdings,
        workdir: Path,
    ) -> None:
        self.device = "cuda:0" if resource_class == "gpu" else "cpu"
        self.holdings = holdings
        self._settings = settings
        self._settings_values = settings_values(settings)
        self._num_threads = num_threads
        self._num_cores = os.cpu_count() or 1
        self._bus = bus
        self._launcher = launcher
        self._workdir = workdir

    def run(
        self, command: ExecuteAttempt, body: Mapping[str, Any], held: Held, checkpoint: ArtifactRef | None
    ) -> tuple[Attempt, Ending]:
        """Execute a command in a child, from a checkpoint if there is one; blocks until nothing of the attempt is left.

        Args:
            command: What to do.
            body: The same, as JSON came with it.
            held: Its delivery, which may be told to stop before, meanwhile and after.
            checkpoint: What an earlier attempt left.

        Returns:
            The attempt, whose log is the caller's to keep and to remove, and how it ended.
        """
        launched, modules = self._launch(command)
        directory = self._workdir / held.holder.nonce
        attempt = Attempt(
            command, launched, log_path=directory.with_suffix(".log"), emit=lambda k, p: self._emit(command, k, p)
        )
        try:
            stop, asked = self.holdings.attach(held, attempt)
            if stop is not None:
                attempt.stop(stop)
            elif asked:
                attempt.ask(asked)
            request = {
                "command": body,
                "nonce": held.holder.nonce,
                "checkpoint": checkpoint.model_dump(mode="json") if checkpoint else None,
                "settings": self._settings_values,
                "workdir": str(directory),
                "device": self.device,
                "num_threads": max(self._num_threads, min(int(command.cpu), self._num_cores)),
            }
            return attempt, attempt.run(request)
        finally:
            attempt.close()
            self._launcher.keep_warm(modules)
            if directory.exists():  # the child removes it, unless it was killed
                shutil.rmtree(directory, ignore_errors=True)

    def _launch(self, command: ExecuteAttempt) -> tuple[Launched, Sequence[str]]:
        """A GPU attempt gets a fresh process, as CUDA does not survive a fork; so does one with its own environment."""
        if self.device != "cpu" or command.env:
            return self._launcher.launch_fresh(command.env), ()
        kind = installed_kinds().get(command.kind)
        modules = (*kind.preload, kind.module) if kind is not None and command.kind != FUNCTION_KIND else ()
        modules = (*adapter_modules(self._settings.store), *modules)
        reuse = self._settings.reuse and command.kind != FUNCTION_KIND
        return self._launcher.launch_warm(modules, tenant=command.tenant, reuse=reuse), modules

    def _emit(self, command: ExecuteAttempt, kind: str, payload: Mapping[str, Any]) -> None:
        signal = {
            "run_id": command.run_id, "stage": command.stage, "attempt_id": command.attempt_id, "kind": kind,
            "time": datetime.now(UTC), "payload": dict(payload),
        }  # fmt: skip
        view = SignalView.model_validate(signal)
        self._bus.signal(f"attempt.{command.run_id}.{kind}", view.model_dump(mode="json"))
