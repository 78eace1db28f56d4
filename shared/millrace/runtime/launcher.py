"""Getting a guarded child for an attempt, by the cheapest of three ways that is safe for it.

1. A *warm* child that has executed attempts of the same modules for the same tenant, and was left clean by them.
2. A child forked from its kind's zygote.
3. A child of a fresh process, for a GPU (CUDA does not survive a fork) or an environment of its own.
"""

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
from functools import partial

from millrace.runtime.launched import Launched, connections
from millrace.runtime.pool import WarmPool

MAX_IDLE = 8
"""Warm children that may wait at once, by default."""


@dataclass(slots=True)
class _Zygote:
    process: subprocess.Popen[bytes]
    requests: socket.socket
    used_at: float = field(default_factory=time.monotonic)


class Launcher:
    """Starts children, and lets zygotes and warm children go that have been idle for `warm_s`. Safe under many threads."""

    def __init__(self, *, env: Mapping[str, str], warm_s: float, max_idle: int = MAX_IDLE) -> None:
        """env is added to this process's environment, for all children; at most max_idle warm ones wait."""
        self._env = {**os.environ, **env}
        self._warm_s = warm_s
        self._lock = threading.Lock()
        self._zygotes: dict[tuple[str, ...], _Zygote] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._pool = WarmPool(warm_s=warm_s, max_idle=max_idle)

    def launch_warm(self, modules: Sequence[str], *, tenant: str = "", reuse: bool = False) -> Launched:
        """A child that has imported these modules: one that waits for its next attempt, or one forked from their zygote.

        Args:
            modules: What the zygote imports. It is started if need be.
            tenant: Whose attempt it is: a child never serves two.
            reuse: Whether the child may have executed attempts before, and may execute others later. False for code that
                a user brings along (`@millrace.stage`): it gets a child of its own, which ends with the attempt.
        """
        if not reuse:
            return self._fork(tuple(modules))
        key = (tuple(modules), tenant)
        launched = self._pool.take(key)
        if launched is None:
            launched = self._fork(key[0])
            launched.give_back = partial(self._pool.put, key)
            launched.again = partial(self.launch_warm, modules, tenant=tenant, reuse=True)
        return launched

    def launch_fresh(self, env: Mapping[str, str]) -> Launched:
        """A child of a fresh process with these further environment variables."""
        launched, theirs = connections()
        try:
            with self._lock:
                command = ("--once", *(str(fd) for fd in theirs))
                self._leaving.append(self._spawn(command, theirs, env={**self._env, **env}))
        finally:
            for fd in theirs:
                os.close(fd)
        return launched

    def let_idle_go(self) -> None:
        """Dismiss whoever was unused for `warm_s`, and reap processes that have ended. Called now and then."""
        self._pool.let_idle_go()
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
        """Dismiss all and wait until every zygote has ended; guards end by themselves, as their sockets are closed."""
        self._pool.close()
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

    @property
    def num_idle(self) -> int:
        """Warm children that wait."""
        return len(self._pool)

    def _fork(self, key: tuple[str, ...]) -> Launched:
        launched, theirs = connections()
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
