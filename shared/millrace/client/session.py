"""A client's connection: finds the gateway when first used, sends calls, and follows the gateway when it moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from millrace import errors
from millrace.client import calls, downloads
from millrace.client.calls import Call
from millrace.client.locator import Locator
from millrace.client.transport import Transport
from millrace.contracts.artifacts import FileEntry

T = TypeVar("T")


class Session:
    """For several threads."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._transport: Transport | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._connected().url

    @property
    def started_factory(self) -> bool:
        return self._locator.started_factory

    def send(self, call: Call[T]) -> T:
        """Return the decoded answer.

        Raises:
            MillraceError: What the gateway answered with; Unavailable if none answers.
        """
        transport = self._connected()
        try:
            return transport.send(call)
        except errors.Unavailable:
            if not self.moved(transport.url):
                raise
            return self._connected().send(call)

    @contextmanager
    def stream(self, call: Call[None]) -> Iterator[httpx.Response]:
        """Open an answer that is read piece by piece. A break while it is read raises Unavailable."""
        with self._connected().stream(call) as response:
            yield response

    def moved(self, lost: str) -> bool:
        """Whether the gateway is elsewhere than where it was lost: another script's factory ended, another started."""
        with self._lock:
            if self._transport is None or self._transport.url != lost:
                return True
            url = self._locator.relocate(lost)
            if url == lost:
                return False
            self._transport.close()
            self._transport = Transport(url)
            return True

    def download(self, digest: str, entry: FileEntry, target: Path) -> None:
        """Write one file of an artifact, verified. Raises Corrupt, ResourceExhausted."""
        with (
            downloads.verified(entry, target) as write,
            self.stream(calls.download_file(digest, entry.path)) as response,
        ):
            for chunk in response.iter_bytes():
                write(chunk)

    def close(self) -> None:
        """Close connections, and stop the factory that was started for them, if one was."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None
        self._locator.close()

    def _connected(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = Transport(self._locator.locate())
            return self._transport


Fetch = Callable[[FileEntry, Path], None]
"""Writes one file of an artifact to a path."""
