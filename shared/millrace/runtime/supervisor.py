"""The supervisor of a factory's processes: starts them, restarts what dies, keeps their logs, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from millrace import errors
from millrace.runtime import guard
from millrace.runtime.devices import WorkerProcess
from millrace.runtime.rotation import RotatingLog
from millrace.runtime.signals import on_stop_signal

log = structlog.get_logger()

SUPERVISED = "MILLRACE_SUPERVISED"
"""In a child's environment: its supervisor's process id, so that it ends if the supervisor is killed."""

BACKOFF_S = (0.5, 30.0)
STEADY_S = 30.0
"""Who has lived so long is restarted at once, and counted anew."""

MAX_EARLY_DEATHS = 5
"""A process that dies so often before it ever was steady has a fault that a restart does not cure."""

KILLED_PAUSE_S = 0.5
"""Whoever was killed, or asked to end, from outside has no fault of its own: it is started again, at most once in so long,
for ever."""

_FROM_OUTSIDE = (0, -signal.SIGKILL, -signal.SIGTERM)
"""How such a process ends: in order, where it could."""

STOP_S = 40.0
"""How long processes may take to end after SIGTERM: a worker's grace, and what follows it."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a factory.

    Attributes:
        name: Unique; its log is `logs/<name>.log` under home.
        argv: The command.
        env: Further environment variables.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Running:
    """A process as it is now, or when it will be started again."""

    spec: ProcessSpec
    log: RotatingLog
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    early_deaths: int = 0


def service_process(name: str, *arguments: str, env: Mapping[str, str] | None = None, label: str = "") -> ProcessSpec:
    """A service of the entry points `millrace.services`, or `worker`, as a process to supervise."""
    argv = (sys.executable, "-m", "millrace.runtime.service", name, *arguments)
    return ProcessSpec(label or name, argv, env or {})


def worker_processes(services: Sequence[str], plan: Sequence[WorkerProcess]) -> list[ProcessSpec]:
    """The worker processes of a plan: one for the CPU's slots, one per GPU."""
    specs = []
    for process in plan:
        label = "worker" if process.device is None else f"worker-gpu{process.device.index}"
        env = {} if process.device is None else process.env
        specs.append(service_process("worker", *services, "--classes", process.resource_class, env=env, label=label))
    return specs


class Supervisor:
    """Runs processes until it is told to stop, by a signal, by `stop`, or by its parent's end of a pipe closing."""

    def __init__(
        self,
        processes: Sequence[ProcessSpec],
        *,
        home: Path,
        parent_fd: int | None = None,
        on_line: Callable[[str, bytes], None] | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        """
        Args:
            processes: Started in this order, stopped all at once.
            home: Where `logs/` is.
            parent_fd: Reading end of a pipe; when its other end closes, all stops.
            on_line: Gets each line of a log, with the process's name.
            stop_s: After so long, what has not ended is killed.
        """
        self.stop = threading.Event()
        self._home = home
        self._parent_fd = parent_fd
        self._on_line = on_line
        self._stop_s = stop_s
        self._specs = list(processes)
        self._num_signals = 0
        self._began_at = time.monotonic()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Supervise; blocks. For the main thread: the kernel ends the children with the thread that started them.

        Returns:
            0, after all have ended.

        Raises:
            Unavailable: A process keeps dying before it gets to work; all others have been stopped.
        """
        guard.become_subreaper()
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))
        if self._parent_fd is not None:
            self._selector.register(self._parent_fd, selectors.EVENT_READ, self._hear_parent)
        running = [_Running(spec, RotatingLog(self._home / "logs" / f"{spec.name}.log")) for spec in self._specs]
        with self._waking_on_child_exit(), on_stop_signal(self.stop, then=self._note_signal):
            try:
                for each in running:
                    self._start(each)
                while not self.stop.is_set():
                    self._wait(running)
                    self._look_after(running)
            finally:
                self._stop_all(running)
                self._selector.close()
        return 0

    def request_stop(self) -> None:
        """Have `run` stop all and return. May be called from any thread."""
        self.stop.set()
        self._wake()

    def _note_signal(self) -> None:
        self._num_signals += 1  # a second Ctrl-C means: now
        self._wake()

    def _hear_parent(self) -> None:
        assert self._parent_fd is not None, "it was registered"
        if not os.read(self._parent_fd, 4096):
            self._selector.unregister(self._parent_fd)
            self.request_stop()

    def _start(self, each: _Running) -> None:
        env = {**os.environ, **each.spec.env, SUPERVISED: str(os.getpid())}
        each.process = subprocess.Popen(
            each.spec.argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the supervisor alone
        )  # fmt: skip
        each.started_at, each.start_at = time.monotonic(), 0.0
        pipe = each.process.stdout
        assert pipe is not None, "it was asked for"
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, selectors.EVENT_READ, lambda: self._forward(each, pipe))
        log.info("process_started", process=each.spec.name, pid=each.process.pid)

    def _wait(self, running: Sequence[_Running]) -> None:
        starts = [each.start_at for each in running if each.process is None]
        timeout = max(0.0, min(starts) - time.monotonic()) if starts else None
        for key, _ in self._selector.select(timeout):
            key.data()

    def _look_after(self, running: Sequence[_Running]) -> None:
        """Note who has died, and start again whose time has come."""
        now = time.monotonic()
        for each in running:
            if each.process is not None and each.process.poll() is not None:
                self._note_death(each, now)
            if each.process is None and now >= each.start_at and not self.stop.is_set():
                self._start(each)
        _reap_orphans({each.process.pid for each in running if each.process is not None})

    def _note_death(self, each: _Running, now: float) -> None:
        assert each.process is not None, "it has just been found dead"
        assert each.process.stdout is not None, "it was asked for"
        code = each.process.returncode
        self._forward(each, each.process.stdout)
        each.process, was_steady = None, now - each.started_at >= STEADY_S
        log.warning("process_died", process=each.spec.name, returncode=code)
        if was_steady:
            each.early_deaths = 0
        if code in _FROM_OUTSIDE:
            each.start_at = max(now, each.started_at + KILLED_PAUSE_S)
            return
        if code == errors.Unavailable.exit_code and now - self._began_at >= STEADY_S:
            each.start_at = now + KILLED_PAUSE_S  # a server is down that was there: it comes back
            return
        each.early_deaths += not was_steady
        # 2 and 3 say that settings or credentials are wrong (see errors.py): the same settings give the same end.
        if (
            code in (errors.InvalidInput.exit_code, errors.Unauthorized.exit_code)
            or each.early_deaths >= MAX_EARLY_DEATHS
        ):
            raise errors.Unavailable(
                f"Process {each.spec.name!r} ended with code {code}: {each.log.last_line or 'it said nothing'}",
                remedy=f"Its log is {each.log.path}.",
            )
        first, longest = BACKOFF_S
        each.start_at = now if was_steady else now + min(longest, first * 2 ** (each.early_deaths - 1))

    def _forward(self, each: _Running, pipe: Any) -> None:
        """Write what has arrived to the log; forget the pipe once nobody can write to it."""
        while True:
            try:
                data = os.read(pipe.fileno(), 65_536)
            except BlockingIOError:
                return
            except ValueError:  # closed before
                return
            if not data:
                self._selector.unregister(pipe)
                pipe.close()
                return
            for line in each.log.write(data):
                if self._on_line is not None:
                    self._on_line(each.spec.name, line)

    def _stop_all(self, running: Sequence[_Running]) -> None:
        alive = [each.process for each in running if each.process is not None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + self._stop_s
        while any(p.poll() is None for p in alive) and time.monotonic() < deadline and self._num_signals < 2:
            for key, _ in self._selector.select(0.1):
                key.data()
        guard.kill_descendants()
        for each in running:
            if each.process is not None and each.process.stdout is not None:
                self._forward(each, each.process.stdout)
            each.log.close()

    @contextmanager
    def _waking_on_child_exit(self) -> Iterator[None]:
        before = signal.signal(signal.SIGCHLD, lambda *_: self._wake())
        try:
            yield
        finally:
            signal.signal(signal.SIGCHLD, before)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"x")


def _reap_orphans(ours: set[int]) -> None:
    """Reap what a killed process left: as a subreaper the supervisor is its parent now. Of `ours`, `poll` must hear."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
            os.waitpid(ended.si_pid, 0)
