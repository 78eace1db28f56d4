"""In a child: whether an attempt has left its process as it found it, so that another attempt may follow in it.

What is cheap to put back is put back (the working directory, states of random generators). Whatever else has changed
makes the process unfit: nobody repairs what stage code did, a new fork is clean and costs milliseconds. What cannot be
seen from here, such as a global of the stage's own module, stays; `MILLRACE_REUSE=false` forks for every attempt.
"""

from __future__ import annotations

import ctypes
import os
import posix
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from millrace.runtime import guard

MAX_GROWTH_BYTES = 128 * 2**20
"""Of resident memory, since before the first attempt."""

_EXPORTER_THREADS = "Otel"
"""Names of the threads of an exporter of traces, which serves the whole process, start so."""

_libc = ctypes.CDLL(None)


class Baseline:
    """What this process was like before its first attempt. For its main thread, between attempts."""

    def __init__(self) -> None:
        self._cwd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._peak = _open_peak_reset()
        self._resident_bytes = self._resident()
        self._state = _state()
        self._siblings = _Siblings(os.getppid())
        self._random_states = {name: save() for name, (save, _, _) in _GENERATORS.items() if name in sys.modules}

    def begin(self) -> None:
        """Count the peak of memory from now."""
        if self._peak is not None:
            os.pwrite(self._peak, b"5", 0)

    def peak_memory_bytes(self) -> int:
        """The most that was resident since `begin`; where /proc cannot be written, since the process began."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def restore(self) -> bool:
        """Put back what is cheap to put back; whether the process is now as it was. Its output has been flushed then."""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            _libc.fflush(None)  # what a library printed belongs to this attempt's log
            if not self._is_as_it_was():
                return False
            os.fchdir(self._cwd)
            self._restore_random()
        except (
            Exception
        ):  # something was closed or replaced that was needed here: unfit, but no reason to lose an outcome
            return False
        return True

    def _is_as_it_was(self) -> bool:
        return (
            _state() == self._state
            and not _started_threads()
            and not _has_children()
            and not self._siblings.has_others()
            and self._resident() - self._resident_bytes <= MAX_GROWTH_BYTES
        )

    def _resident(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * resource.getpagesize()

    def _restore_random(self) -> None:
        """As in a fork: Python's own generator starts anywhere, others where they stood in the zygote."""
        random.seed(int.from_bytes(os.urandom(16)))
        for name, (_, restore, start) in _GENERATORS.items():
            if name in self._random_states:
                restore(self._random_states[name])
            elif name in sys.modules:  # imported by an attempt
                start()


def _state() -> tuple[Any, ...]:
    """All that is compared by value."""
    umask = os.umask(0o077)
    os.umask(umask)
    return (
        umask,
        posix.environ.copy(),  # what lies under os.environ: that is decoded with each copy, for 0.03 ms
        list(sys.path),
        (id(sys.stdin), id(sys.stdout), id(sys.stderr)),
        [(found.st_dev, found.st_ino) for found in map(os.fstat, (0, 1, 2))],
        signal.getitimer(signal.ITIMER_REAL),
        [signal.getsignal(number) for number in _SIGNALS],
    )


_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip
"""What code uses; to ask for all 64 takes 0.1 ms."""


def _started_threads() -> list[threading.Thread]:
    """Threads that an attempt left; pools of native libraries are none, and do nothing by themselves."""
    main = threading.main_thread()
    return [
        thread for thread in threading.enumerate()
        if thread is not main and not thread.name.startswith(_EXPORTER_THREADS)
    ]  # fmt: skip


def _has_children() -> bool:
    """Whether a child of this process lives; the dead are reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


class _Siblings:
    """Other children of this process's guard: what this process's descendants become when they are orphaned.

    A process without children of its own has descendants only there.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        try:
            self._fd: int | None = os.open(f"/proc/{parent}/task/{parent}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            self._fd = None

    def has_others(self) -> bool:
        if self._fd is None:
            return guard.descendants(self._parent) != [os.getpid()]
        return len(os.pread(self._fd, 4096, 0).split()) != 1


def _open_peak_reset() -> int | None:
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _numpy() -> Any:
    return sys.modules["numpy.random"]


def _torch() -> Any:
    return sys.modules["torch"]


_GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[], Any]]] = {
    "numpy.random": (lambda: _numpy().get_state(), lambda state: _numpy().set_state(state), lambda: _numpy().seed()),
    "torch": (
        lambda: _torch().get_rng_state(),
        lambda state: _torch().set_rng_state(state),
        lambda: _torch().seed(),
    ),
}
"""Global generators by module: how to save the state, how to restore it, and how the module starts without one."""
