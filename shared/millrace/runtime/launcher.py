"""Starting a guarded child: forked from its kind's warm zygote, or from a fresh process, for a GPU or an own environment."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.runtime.channel import Channel


@dataclass(frozen=True, slots=True)
class Launched:
    """The worker's ends of one attempt's three connections."""

    control: socket.socket
    channel: Channel
    log_fd: int

    def close(self) -> None:
        self.control.close()
        self.channel.close()
        os.close(self.log_fd)


@dataclass(slots=True)
class _Zygote:
    process: subprocess.Popen[bytes]
    requests: socket.socket
    used_at: float = field(default_factory=time.monotonic)


class Launcher:
    """Starts children, and lets zygotes go that have been idle for `warm_s`. Safe under many threads."""

    def __init__(self, *, env: Mapping[str, str], warm_s: float) -> None:
        """env is added to this process's environment, for all children."""
        self._env = {**os.environ, **env}
        self._warm_s = warm_s
        self._lock = threading.Lock()
        self._zygotes: dict[tuple[str, ...], _Zygote] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []

    def launch_warm(self, modules: Sequence[str]) -> Launched:
        """A child forked from the zygote that has imported these modules; the zygote is started if need be."""
        key = tuple(modules)
        launched, theirs = _connections()
        try:
            with self._lock:
                zygote = self._zygotes.get(key) or self._start_zygote(key)
                try:
                    socket.send_fds(zygote.requests, [b"x"], theirs)
                except OSError:  # it was killed; a second one is another matter
                    self._dismiss(key)
                    zygote = self._start_zygote(key)
                    socket.send_fds(zygote.requests, [b"x"], theirs)
                zygote.used_at = time.monotonic()
        finally:
            for fd in theirs:
                os.close(fd)
        return launched

    def launch_fresh(self, env: Mapping[str, str]) -> Launched:
        """A child of a fresh process with these further environment variables."""
        launched, theirs = _connections()
        try:
            with self._lock:
                command = ("--once", *(str(fd) for fd in theirs))
                self._leaving.append(self._spawn(command, theirs, env={**self._env, **env}))
        finally:
            for fd in theirs:
                os.close(fd)
        return launched

    def let_idle_go(self) -> None:
        """Dismiss zygotes unused for `warm_s`, and reap processes that have ended. Called now and then."""
        with self._lock:
            for key, zygote in list(self._zygotes.items()):
                if time.monotonic() - zygote.used_at >= self._warm_s:
                    self._dismiss(key)
            self._leaving = [process for process in self._leaving if process.poll() is None]

    def keep_warm(self, modules: Sequence[str]) -> None:
        """Count a zygote's idleness from now: its attempt has just ended."""
        with self._lock:
            zygote = self._zygotes.get(tuple(modules))
            if zygote:
                zygote.used_at = time.monotonic()

    def close(self) -> None:
        """Dismiss all zygotes and wait until every process has ended."""
        with self._lock:
            for key in list(self._zygotes):
                self._dismiss(key)
            leaving, self._leaving = self._leaving, []
        for process in leaving:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)

    @property
    def zygotes(self) -> Mapping[tuple[str, ...], int]:
        """Process ids of the warm zygotes by their modules."""
        with self._lock:
            return {key: zygote.process.pid for key, zygote in self._zygotes.items()}

    def _start_zygote(self, modules: tuple[str, ...]) -> _Zygote:
        ours, theirs = socket.socketpair()
        options = [word for module in modules for word in ("--module", module)]
        with theirs:
            command = ("--requests", str(theirs.fileno()), *options)
            process = self._spawn(command, (theirs.fileno(),), env=self._env)
        zygote = self._zygotes[modules] = _Zygote(process, ours)
        return zygote

    def _spawn(
        self, arguments: Sequence[str], fds: Sequence[int], *, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "millrace.runtime.zygote", *arguments],
            stdin=subprocess.DEVNULL, env=dict(env), pass_fds=tuple(fds), start_new_session=True,
        )  # fmt: skip

    def _dismiss(self, key: tuple[str, ...]) -> None:
        zygote = self._zygotes.pop(key)
        zygote.requests.close()
        self._leaving.append(zygote.process)


def _connections() -> tuple[Launched, tuple[int, int, int]]:
    """Our ends, and theirs in the order that a zygote expects."""
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, their_channel = socket.socketpair()
    log_fd, their_log_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(log_fd, False)
    theirs = (their_control.detach(), their_channel.detach(), their_log_fd)
    return Launched(control, Channel(channel), log_fd), theirs
