"""Executing deliveries: announce the start, supervise the attempt, announce its end, and only then let it be acknowledged."""

from __future__ import annotations

import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from pydantic import ValidationError

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptStarted,
    AttemptUndeliverable,
    AttemptYielded,
    Holder,
)
from millrace.contracts.ids import DEFAULT_TENANT
from millrace.contracts.stages import FUNCTION_KIND, installed_kinds
from millrace.contracts.views import SignalView
from millrace.runtime import metrics
from millrace.runtime.announcer import Announcer, failed, outcome_name, subject, terminal
from millrace.runtime.attempt import Attempt, Ending, StopReason
from millrace.runtime.child import settings_values
from millrace.runtime.launched import Launched
from millrace.runtime.launcher import Launcher
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import adapter_modules

log = structlog.get_logger()

StoreOf = Callable[[str], Store]

MAX_STOPPED = 10_000
"""Orders to stop that are remembered, for commands that arrive after them."""


@dataclass(slots=True)
class _Held:
    """A delivery that is being executed here."""

    holder: Holder
    attempt: Attempt | None = None
    stop: StopReason | None = None


class Executor:
    """Executes deliveries, one per calling thread. Every other method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker_id: str,
        resource_class: str,
        num_threads: int,
        bus: Bus,
        store_of: StoreOf,
        launcher: Launcher,
        workdir: Path,
        digests: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._resource_class = resource_class
        self._num_threads = num_threads
        self._bus = bus
        self._announcer = Announcer(bus, worker_id)
        self._store_of = store_of
        self._launcher = launcher
        self._workdir = workdir
        self._digests = digests
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._idle = threading.Condition(self._lock)
        self._stopped: OrderedDict[tuple[str, int, str | None], None] = OrderedDict()
        self._is_draining = False

    # --- one delivery, in its slot's thread

    def deliver(self, body: Mapping[str, Any], redelivered: bool) -> bool:
        """Execute a command to its end; whether to acknowledge it. Never raises: the broker would lose the command."""
        try:
            command = ExecuteAttempt.model_validate(body)
        except ValidationError as error:
            return self._refuse(body, error)
        holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce=uuid4().hex, worker=self._worker_id)
        bound = log.bind(run=command.run_id, stage=command.stage, attempt=command.attempt_id)
        held = self._hold(holder)
        if held is None:
            bound.info("attempt_dropped", redelivered=redelivered)
            return True
        try:
            return self._execute(command, held)
        except Exception as error:
            bound.exception("attempt_broke")
            lost = errors.WorkerLost(f"Worker {self._worker_id} failed: {type(error).__name__}: {error}.")
            return self._announcer.announce(command, failed(command, holder, Ending(error=lost), None))
        finally:
            self._let_go(holder)

    def _execute(self, command: ExecuteAttempt, held: _Held) -> bool:
        holder = held.holder
        if self._is_draining:
            return self._announcer.announce(command, AttemptYielded(**subject(command, holder)))
        expected, ours = command.code_digest, self._digest(command)
        if expected and expected != ours:
            other = errors.Unavailable(
                f"This worker has other code of kind {command.kind!r} ({ours[:12]}) than was asked for ({expected[:12]}).",
                remedy="Run one version of Millrace on all workers of a service.",
            )
            return self._announcer.announce(command, failed(command, holder, Ending(error=other), None))
        started = AttemptStarted(**subject(command, holder), device=self._device, code_digest=ours)
        if not self._announcer.announce(command, started):
            return False
        with metrics.busy(command.kind):
            attempt, ending = self._run(command, held)
        metrics.count_attempt(command.kind, outcome_name(ending), ending.duration_s)
        try:
            return self._conclude(command, holder, attempt, ending)
        finally:
            attempt.log.remove()

    def _conclude(self, command: ExecuteAttempt, holder: Holder, attempt: Attempt, ending: Ending) -> bool:
        """Announce how it ended. A cancelled attempt ends without a word: who cancelled it has gone on."""
        if ending.stopped == "cancelled":
            log.info("attempt_stopped", attempt=command.attempt_id)
            return True
        if ending.stopped == "yielded":
            return self._announcer.announce(command, AttemptYielded(**subject(command, holder)))
        return self._announcer.announce(command, terminal(command, holder, ending, self._keep_log(command, attempt)))

    def _run(self, command: ExecuteAttempt, held: _Held) -> tuple[Attempt, Ending]:
        launched, modules = self._launch(command)
        directory = self._workdir / held.holder.nonce
        attempt = Attempt(
            command, launched, log_path=directory.with_suffix(".log"), emit=lambda k, p: self._emit(command, k, p)
        )
        try:
            with self._lock:
                held.attempt = attempt
                stop = held.stop
            if stop is not None:
                attempt.stop(stop)
            request = {
                "command": command.model_dump(mode="json"),
                "nonce": held.holder.nonce,
                "checkpoint": None,
                "settings": settings_values(self._settings),
                "workdir": str(directory),
                "device": self._device,
                "num_threads": max(self._num_threads, min(int(command.cpu), os.cpu_count() or 1)),
            }
            return attempt, attempt.run(request)
        finally:
            attempt.close()
            self._launcher.keep_warm(modules)
            shutil.rmtree(directory, ignore_errors=True)  # the child removes it, unless it was killed

    def _launch(self, command: ExecuteAttempt) -> tuple[Launched, Sequence[str]]:
        """A GPU attempt gets a fresh process, as CUDA does not survive a fork; so does one with its own environment."""
        if self._resource_class == "gpu" or command.env:
            return self._launcher.launch_fresh(command.env), ()
        kind = installed_kinds().get(command.kind)
        modules = (*kind.preload, kind.module) if kind is not None and command.kind != FUNCTION_KIND else ()
        modules = (*adapter_modules(self._settings.store), *modules)
        reuse = self._settings.reuse and command.kind != FUNCTION_KIND
        return self._launcher.launch_warm(modules, tenant=command.tenant, reuse=reuse), modules

    def _keep_log(self, command: ExecuteAttempt, attempt: Attempt) -> ArtifactRef | None:
        try:
            return attempt.log.store(self._store_of(command.tenant))
        except errors.MillraceError as error:
            log.warning("log_not_kept", attempt=command.attempt_id, reason=str(error))
            return None

    def _refuse(self, body: Mapping[str, Any], invalid: ValidationError) -> bool:
        """Say that a command cannot be read, if it says at least whose it is; either way it is done with."""
        log.error("command_refused", reason=str(invalid))
        try:
            holder = Holder(
                attempt_id=body["attempt_id"], fence=body["fence"], nonce=uuid4().hex, worker=self._worker_id
            )
            data = AttemptUndeliverable(
                run_id=body["run_id"], stage=body["stage"], phase=body["phase"], index=body["index"],
                round=body.get("round", 0), holder=holder, reason="its command does not fit this worker's version",
            )  # fmt: skip
        except (KeyError, TypeError, ValidationError):
            return True
        return self._announcer.publish(data, tenant=str(body.get("tenant", DEFAULT_TENANT)))

    # --- what others ask of it

    def stop(self, orders: Sequence[Mapping[str, Any]]) -> None:
        """Kill the attempts that these orders name, and drop their commands should they arrive later."""
        with self._lock:
            wanted = {(o["attempt_id"], int(o["fence"]), o.get("nonce") or None) for o in orders}
            self._stopped.update(dict.fromkeys(wanted))
            while len(self._stopped) > MAX_STOPPED:
                self._stopped.popitem(last=False)
            hit = [held for held in self._held.values() if self._is_stopped(held.holder)]
        for held in hit:
            self._stop(held, "cancelled")

    def drain(self) -> None:
        """Hand back whatever is delivered from now on."""
        self._is_draining = True

    def yield_all(self) -> None:
        """Kill what runs and hand it back."""
        with self._lock:
            hit = list(self._held.values())
        for held in hit:
            self._stop(held, "yielded")

    def abandon(self) -> None:
        """Stop waiting for a broker that does not answer; unconfirmed commands go back to it."""
        self._announcer.abandon()

    def wait_idle(self, timeout_s: float) -> bool:
        with self._lock:
            return self._idle.wait_for(lambda: not self._held, timeout=timeout_s)

    @property
    def holders(self) -> list[Holder]:
        with self._lock:
            return [held.holder for held in self._held.values()]

    # --- the rest

    @property
    def _device(self) -> str:
        return "cuda:0" if self._resource_class == "gpu" else "cpu"

    def _digest(self, command: ExecuteAttempt) -> str:
        return command.function.code.digest if command.function else self._digests.get(command.kind, "")

    def _hold(self, holder: Holder) -> _Held | None:
        with self._lock:
            if self._is_stopped(holder):
                return None
            held = self._held[holder.nonce] = _Held(holder)
            return held

    def _let_go(self, holder: Holder) -> None:
        with self._lock:
            self._held.pop(holder.nonce, None)
            self._idle.notify_all()

    def _is_stopped(self, holder: Holder) -> bool:
        key = (holder.attempt_id, holder.fence)
        return (*key, None) in self._stopped or (*key, holder.nonce) in self._stopped

    def _stop(self, held: _Held, reason: StopReason) -> None:
        with self._lock:
            held.stop = held.stop or reason
            attempt = held.attempt
        if attempt is not None:
            attempt.stop(reason)

    def _emit(self, command: ExecuteAttempt, kind: str, payload: Mapping[str, Any]) -> None:
        signal = {
            "run_id": command.run_id, "stage": command.stage, "attempt_id": command.attempt_id, "kind": kind,
            "time": datetime.now(UTC), "payload": dict(payload),
        }  # fmt: skip
        view = SignalView.model_validate(signal)
        self._bus.signal(f"attempt.{command.run_id}.{kind}", view.model_dump(mode="json"))
