"""Supervising one attempt: a thread that has a child, hears what it says, and knows how it ended."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from millrace import errors
from millrace.contracts.commands import ExecuteAttempt
from millrace.runtime import guard
from millrace.runtime.capture import LogCapture
from millrace.runtime.launched import Launched

SIGNAL_INTERVAL_S = 0.1
"""Progress and log lines go out at most ten times a second; of progress the latest wins."""

StopReason = Literal["cancelled", "yielded"]

Emit = Callable[[str, Mapping[str, Any]], None]
"""Takes a signal's kind (`progress`, `metric`, `log`) and payload. Best effort, returns at once."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended: with an outcome of the child's, with an error, or because it was stopped."""

    outcome: Mapping[str, Any] | None = None
    error: errors.MillraceError | None = None
    stopped: StopReason | None = None
    peak_memory_bytes: int = 0
    duration_s: float = 0.0


@dataclass(slots=True)
class _Heard:
    """What has arrived so far. `warm` comes with the outcome of a child that stays: `{"peak_memory_bytes"}`."""

    outcome: Mapping[str, Any] | None = None
    warm: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    metrics: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    is_guard_gone: bool = False


class Attempt:
    """One attempt in one thread; `stop` and `ask` may be called from any other."""

    def __init__(self, command: ExecuteAttempt, launched: Launched, *, log_path: Path, emit: Emit) -> None:
        self.command = command
        self._launched = launched
        self._emit = emit
        self._stopping = threading.Lock()
        self._stopped: StopReason | None = None
        self._asked = ""
        self._was_sent = False
        self._has_ended = False
        self._is_warm = False
        self.child_pid = launched.child_pid
        self.log = LogCapture(launched.log_fd, log_path)

    def stop(self, reason: StopReason) -> None:
        """Kill whatever the attempt started; `run` then returns. The first reason counts."""
        with self._stopping:
            if not self._has_ended and self._stopped is None:
                self._stopped = reason
                self._kill()

    def ask(self, reason: str) -> None:
        """Ask the stage's code to save what it has and stop (`context.stop_requested`). The first reason counts."""
        with self._stopping:
            if not self._asked and not self._has_ended:
                self._asked = reason
                if self._was_sent:
                    self._send_ask()

    def run(self, request: Mapping[str, Any]) -> Ending:
        """Send the child its request and stay until it is warm for another, or nothing of it is left."""
        began = time.monotonic()
        deadline = began + self.command.timeout_s if self.command.timeout_s else None
        oom_kills = _oom_kills(int(began))
        while True:
            heard = _Heard()
            self._begin(request)
            is_late = self._listen(heard, deadline=deadline)
            if not self._replace_unused(heard):
                break
        with self._stopping:
            self._has_ended = True
            stopped = self._stopped
        duration_s = time.monotonic() - began
        memory = int((heard.warm or heard.report or {}).get("peak_memory_bytes", 0))
        if stopped is not None:
            return Ending(stopped=stopped, duration_s=duration_s)
        if heard.outcome is not None:
            return Ending(outcome=heard.outcome, peak_memory_bytes=memory, duration_s=duration_s)
        error = self._timed_out() if is_late else _death(heard.report, self.command, oom_kills)
        return Ending(error=error, peak_memory_bytes=memory, duration_s=duration_s)

    def close(self) -> None:
        """Give a warm child back, or close its connections."""
        if self._is_warm and self._launched.give_back is not None:
            self._launched.give_back(self._launched)
        else:
            self._launched.close()

    def _begin(self, request: Mapping[str, Any]) -> None:
        launched = self._launched
        given: dict[str, Any] = {"reuse": launched.may_serve_again}
        if launched.num_attempts:  # it has had them
            given["settings"] = None
        with contextlib.suppress(OSError):  # it died before it listened, as its guard will report
            launched.channel.send({**request, **given})
        with self._stopping:
            self._was_sent = True
            if self._asked:
                self._send_ask()

    def _replace_unused(self, heard: _Heard) -> bool:
        """Go on with another child if a warm one died between its attempts: it never read this one's request."""
        with self._stopping:
            launched = self._launched
            is_unused = launched.num_attempts > 0 and launched.channel.was_unread and not self._asked
            if not is_unused or heard.outcome is not None or self._stopped is not None or launched.again is None:
                return False
            launched.close()
            self._launched = launched.again()
            self._was_sent = False
            self.child_pid = self._launched.child_pid
            self.log.follow(self._launched.log_fd)
            return True

    def _listen(self, heard: _Heard, *, deadline: float | None) -> bool:
        """Hear everything until the child is warm or its guard has reported; whether the time limit was passed."""
        is_late, sent_at = False, 0.0
        launched = self._launched
        hear: dict[int, Callable[[_Heard], bool]] = {
            launched.control.fileno(): self._hear_guard,
            launched.channel.fileno(): self._hear_child,
            launched.log_fd: lambda _: self.log.read(),
        }
        while not heard.is_guard_gone and (is_late or not self._stays_warm(heard)):
            for fd, _ in launched.poll.poll(self._wait_ms(deadline, sent_at, heard)):
                if not hear[fd](heard):
                    launched.poll.unregister(fd)
            now = time.monotonic()
            if now - sent_at >= SIGNAL_INTERVAL_S:
                self._send_signals(heard)
                sent_at = now
            if deadline is not None and now >= deadline and heard.outcome is None:
                is_late, deadline = True, None
                self._kill()
        if heard.is_guard_gone:
            self._hear_child(heard)  # what was said in the last instant
        self.log.end()
        self._send_signals(heard)
        return is_late

    def _stays_warm(self, heard: _Heard) -> bool:
        """Whether the attempt is over while its child lives on. A stop that came before this is carried out."""
        if heard.warm is None or not self.child_pid:
            return False
        with self._stopping:
            self._is_warm = self._has_ended = self._stopped is None
        return self._is_warm

    def _wait_ms(self, deadline: float | None, sent_at: float, heard: _Heard) -> int | None:
        waits = []
        if heard.progress is not None or heard.metrics or self.log.has_live:
            waits.append(sent_at + SIGNAL_INTERVAL_S)
        if deadline is not None:
            waits.append(deadline)
        return max(0, math.ceil((min(waits) - time.monotonic()) * 1000)) if waits else None

    def _hear_guard(self, heard: _Heard) -> bool:
        try:
            data = self._launched.control.recv(4096)
        except ConnectionResetError:  # it was killed before it had read our word
            data = b""
        message = json.loads(data) if data else {}
        if "peak_memory_bytes" in message:
            heard.report = message
        elif "pid" in message:
            self.child_pid = self._launched.child_pid = message["pid"]
            return True
        heard.is_guard_gone = True
        return False

    def _hear_child(self, heard: _Heard) -> bool:
        messages, is_open = self._launched.channel.receive_ready()
        for message in messages:
            match message["type"]:
                case "progress":
                    heard.progress = message["payload"]
                case "metric":
                    heard.metrics[message["payload"]["name"]] = message["payload"]
                case _:
                    heard.warm = message.pop("warm", None)
                    heard.outcome = message
        return is_open

    def _send_signals(self, heard: _Heard) -> None:
        if heard.progress is not None:
            self._emit("progress", heard.progress)
            heard.progress = None
        for payload in heard.metrics.values():
            self._emit("metric", payload)
        heard.metrics.clear()
        if lines := self.log.take_live():
            self._emit("log", lines)

    def _kill(self) -> None:
        with contextlib.suppress(OSError):  # the guard has gone already, and all it guarded with it
            self._launched.control.send(guard.KILL)

    def _send_ask(self) -> None:
        with contextlib.suppress(OSError):
            self._launched.channel.send({"type": "stop", "attempt_id": self.command.attempt_id, "reason": self._asked})

    def _timed_out(self) -> errors.MillraceError:
        return errors.TimedOut(
            f"Stage {self.command.stage!r} did not end within its limit of {self.command.timeout_s:g} s.",
            remedy="Raise `timeout_s` of the stage, or give it less to do.",
            field=f"stages.{self.command.stage}.timeout_s",
        )


@lru_cache(maxsize=1)
def _oom_kills(_second: int) -> int:
    """The kernel's count, read at most once a second however many attempts begin in it."""
    return guard.oom_kills()


def _death(report: Mapping[str, Any] | None, command: ExecuteAttempt, oom_kills: int) -> errors.MillraceError:
    """Why a child ended without an outcome, as its guard reports it; oom_kills is the kernel's count as it began."""
    see_log = f"See its last lines: `millrace logs {command.run_id} --stage {command.stage}`."
    if report is None:
        return errors.WorkerLost(f"The guard of stage {command.stage!r} was killed, and its child with it.")
    if report["signal"] == signal.SIGKILL and not report["killed"] and report["oom_kills"] > oom_kills:
        return errors.ResourceExhausted(
            f"Stage {command.stage!r} was killed by the kernel for want of memory, at "
            f"{report['peak_memory_bytes'] / 2**20:.0f} MiB.",
            remedy="Give it a smaller batch or model, or a worker with more memory.",
        )
    if report["signal"] is not None:
        name = signal.Signals(report["signal"]).name
        return errors.WorkerLost(f"The child of stage {command.stage!r} was killed by {name}.", remedy=see_log)
    return errors.WorkerLost(
        f"The child of stage {command.stage!r} exited with code {report['exit_code']} and without a result.",
        remedy=see_log,
    )
