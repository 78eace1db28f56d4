"""A guard runs one server and ends it, with all its descendants, when its own standard input closes.

That happens when the tests stop the server and also when the tests are killed with SIGKILL. A death signal in the
server itself would not do: it is lost when the server changes its user, and servers have children of their own.

Usage: guard.py SIGNAL USER FOLDER COMMAND [ARGUMENT...]

USER may be empty: run as the caller. A byte on standard input asks for a stop; an end without one means that the tests
died, and then FOLDER is removed too, which they can no longer do.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 5.0


def main() -> int:
    """Run the command until it ends or standard input does; return the command's exit status."""
    stop_signal, user, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Daemons that detach are adopted by this process, so that it finds them.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    identity = pwd.getpwnam(user) if user else None
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        user=identity.pw_uid if identity else None,
        group=identity.pw_gid if identity else None,
        extra_groups=[] if identity else None,
    )
    while server.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    if server.poll() is None:
        server.send_signal(stop_signal)
        deadline = time.monotonic() + GRACE_S
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    _kill_descendants()
    if select.select([sys.stdin], [], [], 0)[0] and not sys.stdin.buffer.read(1):
        shutil.rmtree(folder, ignore_errors=True)
    return server.poll() or 0


def _kill_descendants() -> None:
    while True:
        for pid in _children(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children(pid: int) -> list[int]:
    # Grandchildren become children when their parent dies, so one level at a time reaches all.
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    raise SystemExit(main())
