"""A guard: the process between a worker and one child, which sees to it that nothing of an attempt survives it.

    worker ── (zygote) ── guard ── child ── whatever the child starts

The guard is a subreaper: a descendant that forks twice, or starts a session of its own as torchrun's ranks do, becomes
its child when it is orphaned, so "no children left" means "nothing left". It kills all of them when the worker says so,
when the worker's end of the control socket closes (SIGKILL of the worker included), and when the child has ended. It never
runs the stage's code, so a child that holds its interpreter's lock for a minute is simply alive.

This module is imported by the standard library alone: a fresh guard starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

KILL = b"kill"
"""The worker's one word on the control socket; its closing means the same."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def run(control: socket.socket, start: Callable[[], None], *, release: Sequence[int] = ()) -> NoReturn:
    """Fork the child, which calls start; stay until no descendant is left, then report and exit.

    Args:
        control: SOCK_SEQPACKET to the worker. Out go `{"pid"}` at the start and one report at the end (see `_report`).
        start: The child's work. It returns or raises; either ends the child.
        release: Descriptors that only the child needs.
    """
    with contextlib.suppress(OSError):
        os.setsid()  # Ctrl-C in a terminal reaches the worker alone, which decides.
    become_subreaper()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken = _wake_on_child_exit()
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(guard, control, start)
    _let_go(release)
    _send(control, {"pid": pid})
    killed, ended = _watch(control, woken, pid)
    kill_descendants()
    _send(control, _report(pid, killed=killed, ended=ended))
    os._exit(0)


def become_subreaper() -> None:
    """Orphaned descendants of this process become its children from now on."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies; at once if it already has."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def kill_descendants() -> None:
    """SIGKILL every descendant of this subreaper and reap until none remains."""
    pause_s = 0.001
    while reap_ended():
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def descendants(root: int) -> list[int]:
    """Process ids below root, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_bytes()
                parent = int(stat.rpartition(b")")[2].split()[1])  # a command's name may hold spaces and brackets
                children.setdefault(parent, []).append(int(entry))
    found = list(children.get(root, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def oom_kills() -> int:
    """A count that grows when the kernel kills for want of memory, in this control group or anywhere on this host."""
    total = _counter(Path("/proc/vmstat"))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                total += _counter(Path("/sys/fs/cgroup" + path, "memory.events"))
            elif "memory" in controllers.split(","):
                total += _counter(Path("/sys/fs/cgroup/memory" + path, "memory.oom_control"))
    return total


def _be_child(guard: int, control: socket.socket, start: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        control.close()
        die_with_parent(guard)
        start()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # no atexit handlers: those of the zygote's modules are not this child's


Ended = tuple[int, resource.struct_rusage]


def _watch(control: socket.socket, woken: socket.socket, pid: int) -> tuple[bool, Ended | None]:
    """Wait until the child has ended (False, how) or the worker wants it killed (True, how, if it had ended already)."""
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(4096)
            ended = _reap(pid)
            if ended is not None:
                return False, ended
        if control in readable:
            control.recv(64)  # KILL, or empty because the worker's end closed
            return True, _kill(pid)


def _kill(pid: int) -> Ended:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def _reap(pid: int) -> Ended | None:
    """Reap whoever has ended, orphans included; return how the child did if it was among them."""
    ended: Ended | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            reaped, status, usage = os.wait4(-1, os.WNOHANG)
            if reaped == 0:
                break
            if reaped == pid:
                ended = status, usage
    return ended


def reap_ended() -> bool:
    """Reap whoever has ended; whether any child remains."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _report(pid: int, *, killed: bool, ended: Ended | None) -> dict[str, Any]:
    """How the child ended.

    `exit_code` or `signal` is None; `killed` says that the worker wanted it; `oom_kills` is the kernel's count by now: if it
    has grown since an attempt began, and nobody else asked for its SIGKILL, want of memory was the cause.
    """
    status, usage = ended if ended is not None else (0, resource.getrusage(resource.RUSAGE_CHILDREN))
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return {
        "pid": pid,
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": number,
        "killed": killed,
        "oom_kills": oom_kills(),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _counter(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def _wake_on_child_exit() -> socket.socket:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    return ours


def _let_go(release: Sequence[int]) -> None:
    """Close what is the child's, so that whoever listens there hears when the child has gone."""
    for fd in release:
        os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the worker is gone; there is nobody to tell
        control.send(json.dumps(message).encode())
