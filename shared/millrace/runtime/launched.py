"""A launched child: the worker's ends of its three connections, over one attempt or, if it is warm, several."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.runtime.channel import Channel

MAX_ATTEMPTS = 200
"""After so many a child is replaced, whatever it looks like: what leaks slowly is bounded, and a fork is 0.5% of the cost."""


@dataclass(slots=True)
class Launched:
    """The worker's ends: the guard's control socket, the child's channel, and the pipe of its output.

    Attributes:
        give_back: Takes a child that may execute another attempt; None if none may follow.
        again: Launches another in place of one that died unused.
        num_attempts: How many have ended in it.
        child_pid: 0 until the guard has told it.
    """

    control: socket.socket
    channel: Channel
    log_fd: int
    give_back: Callable[[Launched], None] | None = None
    again: Callable[[], Launched] | None = None
    num_attempts: int = 0
    child_pid: int = 0
    used_at: float = field(default_factory=time.monotonic)
    poll: select.poll = field(init=False)

    def __post_init__(self) -> None:
        self.poll = select.poll()
        for fd in (self.control.fileno(), self.channel.fileno(), self.log_fd):
            self.poll.register(fd, select.POLLIN)

    @property
    def may_serve_again(self) -> bool:
        """Whether, if all goes well, another attempt may follow the one that begins now."""
        return self.give_back is not None and self.num_attempts + 1 < MAX_ATTEMPTS

    @property
    def is_quiet(self) -> bool:
        """Whether an idle child lives and has said nothing since its last attempt."""
        return not self.poll.poll(0)

    def close(self) -> None:
        """Let go: the guard hears it, kills all that it guards, and ends. May be called twice."""
        self.control.close()
        self.channel.close()
        if self.log_fd >= 0:
            os.close(self.log_fd)
            self.log_fd = -1


def connections() -> tuple[Launched, tuple[int, int, int]]:
    """Our ends, and theirs in the order that a zygote expects."""
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, their_channel = socket.socketpair()
    log_fd, their_log_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(log_fd, False)
    theirs = (their_control.detach(), their_channel.detach(), their_log_fd)
    return Launched(control, Channel(channel), log_fd), theirs
