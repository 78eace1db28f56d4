"""A zygote: a process that has imported one stage kind's modules, and forks a guarded child of itself on request.

A fork with imports costs 2 ms where a fresh interpreter with torch costs seconds. The zygote starts no thread and never
touches a device before it forks; attempts on a GPU get a fresh process instead (see `launcher`). It ends when the worker
closes its socket: when idle for `warm_s`, or because the worker died. Its guards go on by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from millrace.runtime import guard

_CHILD = "millrace.runtime.child"

NUM_FDS = 3
"""A request is one byte with three descriptors: the guard's control socket, the child's channel, the log pipe."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="millrace.runtime.zygote")
    parser.add_argument("--requests", type=int, default=-1, metavar="FD", help="Socket to the worker.")
    parser.add_argument("--module", action="append", default=[], help="Module to import before the first fork.")
    parser.add_argument(
        "--once", type=int, nargs=NUM_FDS, metavar="FD", help="Guard one attempt here, importing nothing."
    )
    arguments = parser.parse_args(argv)
    if arguments.once:
        run_guard(*arguments.once)
    requests = socket.socket(fileno=arguments.requests)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker decides, by closing the socket
    _preload([_CHILD, *arguments.module])
    # Guards are reaped here, and not by the kernel for who ignores them, which forgets the CPU time of what it reaps.
    signal.signal(signal.SIGCHLD, lambda *_: guard.reap_ended())
    while True:
        data, fds, _, _ = socket.recv_fds(requests, 1, NUM_FDS)
        if not data:
            os._exit(0)
        if len(fds) == NUM_FDS and os.fork() == 0:
            requests.close()
            run_guard(*fds)
        for fd in fds:
            os.close(fd)


def run_guard(control_fd: int, channel_fd: int, log_fd: int) -> NoReturn:
    """Become the guard of one attempt, whose child reads its request from the channel and logs into the pipe."""

    def start() -> None:
        _redirect(log_fd)
        from millrace.runtime.child import main as execute  # already there in a zygote; a fresh process imports it now

        execute(channel_fd)

    guard.run(socket.socket(fileno=control_fd), start, release=(channel_fd, log_fd))


def _preload(modules: Sequence[str]) -> None:
    for module in modules:
        # The child imports it again and says what is wrong with it, to the user and as this attempt's error.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    with contextlib.suppress(Exception):
        importlib.import_module(_CHILD).warm_up()
    gc.collect()
    gc.freeze()  # so that a child's collector does not touch, and copy, every page it shares with us


def _redirect(log_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(null)
    os.close(log_fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are TextIOWrappers in our processes


if __name__ == "__main__":
    main()
