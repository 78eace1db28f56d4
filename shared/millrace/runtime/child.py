"""The child: a process that executes an attempt, says how it went, and is gone, or waits for another of its like."""

from __future__ import annotations

import contextvars
import faulthandler
import math
import mimetypes
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import setproctitle
import structlog
from pydantic import SecretStr

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.stages import FUNCTION_KIND, installed_kinds
from millrace.errors import to_payload
from millrace.runtime import phases, telemetry
from millrace.runtime.channel import Channel
from millrace.runtime.cleanliness import Baseline
from millrace.runtime.code import load_code
from millrace.runtime.failures import to_error
from millrace.runtime.fetched import FetchCache
from millrace.runtime.heads import TaskHead, head_name
from millrace.runtime.logging import configure_logging
from millrace.runtime.stage import Context, HandedBack, Inputs, StopSign
from millrace.runtime.stopping import StopRequest
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store

WARM_ATTEMPT_S = 1.0
"""After a longer attempt the child ends: it had time to change much in its process, and a fork is 1% of its cost."""

_SECRETS = ("store_secret_key", "pii_key")


def main(channel_fd: int) -> None:
    """Receive a request, execute it, answer with one outcome; again, for as long as the worker and this process permit.

    The request is `{"command", "nonce", "checkpoint", "settings", "workdir", "device", "num_threads", "reuse"}`; `settings`
    is None after the first. Before the outcome go any number of `{"type": "progress" | "metric", "payload"}`. The outcome is
    `{"type": "succeeded", ...fields of AttemptSucceeded}`, `{"type": "failed", "error"}`, `{"type": "yielded"}` or
    `{"type": "stale"}`. With `"warm": {"peak_memory_bytes"}` it says that this process waits for the next request.
    """
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=channel_fd))
    warm: _Warm | None = None
    while (request := channel.receive()) is not None:
        if request.get("type") == "stop":  # meant for an attempt that has ended
            continue
        warm = warm or _Warm(settings_of(request["settings"]))
        outcome = contextvars.copy_context().run(_serve, warm, request, channel)
        channel.send(outcome)
        telemetry.flush()
        if "warm" not in outcome:
            return


class _Warm:
    """What a child keeps from one attempt to the next."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bound = configure_logging(settings)
        self.baseline = Baseline()
        self._stores: dict[str, Store] = {}

    def store(self, tenant: str) -> Store:
        """The store, opened at its first use: a stage's error, if it cannot be."""
        if tenant not in self._stores:
            self._stores[tenant] = open_store(self.settings, tenant=tenant)
        return self._stores[tenant]


def _serve(warm: _Warm, request: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Execute one attempt. Its outcome says that the process is warm if it may, and is as it was before."""
    began = time.monotonic()
    command = ExecuteAttempt.received(request["command"])
    setproctitle.setproctitle(f"millrace: {command.stage} {command.phase} {command.index} of {command.run_id}")
    warm.bound.rebind(run=command.run_id, stage=command.stage, task=command.index, attempt=command.attempt_id)
    warm.baseline.begin()
    outcome = _outcome(command, warm, request, channel, StopRequest(channel, command.attempt_id))
    # A function is code that a user brought along: nothing it did to the process may reach another attempt.
    may_stay = request["reuse"] and command.kind != FUNCTION_KIND and time.monotonic() - began <= WARM_ATTEMPT_S
    if may_stay and warm.baseline.restore():
        outcome["warm"] = {"peak_memory_bytes": warm.baseline.peak_memory_bytes()}
        setproctitle.setproctitle(f"millrace: warm for {command.kind}")
    return outcome


def warm_up() -> None:
    """Do once, in a zygote, what every child would do anew: read entry points (40 ms), media types, telemetry's imports."""
    installed_kinds()
    mimetypes.init()
    with telemetry.span("warm_up", telemetry.new_trace()):
        telemetry.current_trace()


def settings_values(settings: Settings) -> dict[str, Any]:
    """Settings as JSON, secrets included, for a request: it travels over a private socket alone."""
    values = settings.model_dump(mode="json")
    return values | {name: getattr(settings, name).get_secret_value() for name in _SECRETS}


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The worker's settings again, as it validated them: this process's environment has no say, and costs 2 ms to read."""
    typed = {"home": Path(values["home"]), **{name: SecretStr(values[name]) for name in _SECRETS}}
    return Settings.model_construct(**{**values, **typed})


def _outcome(
    command: ExecuteAttempt, warm: _Warm, request: Mapping[str, Any], channel: Channel, stop: StopSign
) -> dict[str, Any]:
    """Execute the attempt; say how it ended, as `main` describes. `stop` is set when it is asked to stop."""
    log = structlog.get_logger()
    workdir = Path(request["workdir"])
    try:
        workdir.mkdir(parents=True)
        telemetry.configure_telemetry(warm.settings, "millrace-child")
        with telemetry.span(f"{command.kind} {command.phase}", command.trace, run=command.run_id, stage=command.stage):
            answer = _execute(command, warm, request, channel, stop)
        encoded = {k: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for k, v in answer.items()}
        return {"type": "succeeded", **encoded}
    except HandedBack:
        return {"type": "yielded"}
    except errors.Stale as error:
        log.warning("attempt_stale", reason=str(error))
        return {"type": "stale"}
    except errors.MillraceError as error:
        log.error("attempt_failed", code=error.code, reason=str(error))
        return {"type": "failed", "error": to_payload(error)}
    except (Exception, SystemExit, KeyboardInterrupt) as raised:
        log.exception("attempt_failed")
        return {"type": "failed", "error": to_payload(to_error(raised, stage=command.stage))}
    finally:
        _remove(workdir)


def _execute(
    command: ExecuteAttempt, warm: _Warm, request: Mapping[str, Any], channel: Channel, stop: StopSign
) -> phases.Answer:
    def sink(kind: str, payload: Mapping[str, Any]) -> None:
        channel.send({"type": kind, "payload": _plain(payload)})

    store = warm.store(command.tenant)
    checkpoint = request["checkpoint"]
    cache = FetchCache(warm.settings.home / "cache", max_bytes=warm.settings.cache_max_bytes)
    context = Context(
        store=store,
        workdir=Path(request["workdir"]),
        cache=cache,
        run_id=command.run_id,
        stage=command.stage,
        attempt_id=command.attempt_id,
        fence=command.fence,
        seed=command.seed,
        device=str(request["device"]),
        num_threads=int(request["num_threads"]),
        log=structlog.get_logger(),
        sink=sink,
        head=TaskHead(
            store,
            head_name(command),
            attempt_id=command.attempt_id,
            fence=command.fence,
            nonce=str(request["nonce"]),
        ),
        outputs=command.outputs,
        stop=stop,
        earlier=ArtifactRef.received(checkpoint) if checkpoint else None,
        secrets={} if command.kind == FUNCTION_KIND else {"pii_key": warm.settings.pii_key},
    )
    os.chdir(context.workdir)  # what stage code writes to relative paths goes away with the attempt
    with closing(cache):
        return phases.execute(command, load_code(command, context), context, _open_inputs(command, context))


def _remove(workdir: Path) -> None:
    try:
        os.rmdir(workdir)  # most are empty, and this is one system call
    except OSError:
        shutil.rmtree(workdir, ignore_errors=True)


def _open_inputs(command: ExecuteAttempt, context: Context) -> Inputs:
    return {
        port: tuple(context.open_artifact(ref) for ref in bound)
        if isinstance(bound, tuple)
        else context.open_artifact(bound)
        for port, bound in command.inputs.items()
    }


def _plain(value: Any) -> Any:
    """A progress value as JSON: numpy's and torch's numbers become floats, and what is not finite its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
