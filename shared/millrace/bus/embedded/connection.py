"""One connection of the embedded transport: its broker, its channels, and how it waits for work."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from amqp.exceptions import RecoverableConnectionError

from millrace.bus.embedded.broker import Broker
from millrace.bus.embedded.owners import Owner

FALLBACK_S = 1.5
"""How often an idle connection looks by itself, for a ring that was lost and for the dead."""


class Drainable(Protocol):
    """A channel, as its connection sees it."""

    def fetch(self) -> bool:
        """Take messages into the buffer; True if there were any."""

    def deliver_buffered(self) -> bool:
        """Hand one message to its consumer; False if there is none."""

    def close(self) -> None: ...


class Connection:
    """What kombu calls a connection. Any thread may acknowledge; one thread drains."""

    def __init__(self, client: Any, directory: Path) -> None:
        self.client = client
        self.broker = Broker(directory)
        self.channels: list[Drainable] = []
        self.connected = True
        self._owner: Owner | None = None
        self._mutex = threading.Lock()
        self._next_look = 0.0
        self._waits_no_more = False

    @property
    def owner(self) -> Owner:
        """Who this connection is to others; made when first needed, as a publisher owns nothing."""
        with self._mutex:
            self.require_open()
            if self._owner is None:
                self._owner = Owner(self.broker.owners)
            return self._owner

    def require_open(self) -> None:
        if not self.connected:
            raise RecoverableConnectionError("the connection is closed")

    def drain_events(self, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message, or sleep until there is one.

        Raises:
            TimeoutError: Nothing came within timeout seconds (None: no limit), or `wait_no_more` was called.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.require_open()
            if self._deliver_one():
                return
            now = time.monotonic()
            if self._waits_no_more or (deadline is not None and now >= deadline):
                raise TimeoutError("no message came")
            until = self._next_look if deadline is None else min(self._next_look, deadline)
            if self.owner.wait(until - now):
                self._next_look = 0.0  # somebody rang

    def wake(self) -> None:
        """Look for messages soon: there is room for more, or something to consume."""
        self._next_look = 0.0
        self.owner.ring()

    def wait_no_more(self) -> None:
        """From now on `drain_events` delivers what is there or raises; from any thread. For the end of a consumer."""
        self._waits_no_more = True
        self.owner.ring()

    def _deliver_one(self) -> bool:
        if any(channel.deliver_buffered() for channel in self.channels):
            return True
        now = time.monotonic()
        if now < self._next_look:
            return False
        # Set first: a ring or an acknowledgement that comes during the look must cause another.
        self._next_look = now + FALLBACK_S
        self.broker.reap()
        if sum(channel.fetch() for channel in self.channels):  # all of them: `any` would stop at the first
            self._next_look = 0.0
        return any(channel.deliver_buffered() for channel in self.channels)

    def close(self) -> None:
        """Give everything back and leave."""
        with self._mutex:
            if not self.connected:
                return
        for channel in list(self.channels):
            channel.close()
        with self._mutex:
            self.connected = False
            owner, self._owner = self._owner, None
        try:
            if owner is not None:
                self._retire(owner)
        finally:
            self.broker.close()

    def _retire(self, owner: Owner) -> None:
        try:
            self.broker.bury(owner.id)
        except sqlite3.Error:
            owner.abandon()  # a full disk, perhaps; another process gives back what is ours when it can
            raise
        owner.leave()
