"""A channel: JSON objects, one a line, over a stream socket between a worker and a child.

The worker sends a request, and perhaps `{"type": "stop", "attempt_id", "reason"}`; the child answers with any number of
`progress` and `metric` messages and one outcome. A warm child is then sent its next request.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

_CHUNK_BYTES = 65_536


class Channel:
    """One end. Sending is safe from several threads and blocks while the other end is slow; receiving is for one thread.

    Attributes:
        was_unread: The other end is gone and had not read all that was sent to it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self.was_unread = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message. Raises OSError if the other end is gone, ValueError or TypeError if it is not JSON."""
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            self.was_unread = True
            raise

    def receive(self) -> dict[str, Any] | None:
        """Wait for one message; None if the other end closed first."""
        while True:
            for message in self._whole(limit=1):
                return message
            data = self._socket.recv(_CHUNK_BYTES)
            if not data:
                return None
            self._buffer += data

    def receive_ready(self) -> tuple[list[dict[str, Any]], bool]:
        """Messages that have arrived, without waiting, and whether the other end is still open."""
        is_open = True
        while True:
            try:
                data = self._socket.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:  # the kernel's word for "closed, with data in its queue"
                self.was_unread = True
                data = b""
            if not data:
                is_open = False
                break
            self._buffer += data
            if len(data) < _CHUNK_BYTES:  # all there was; an end that follows is heard by the next call
                break
        return list(self._whole()), is_open

    def close(self) -> None:
        self._socket.close()

    def _whole(self, limit: int = -1) -> Iterator[dict[str, Any]]:
        while limit != 0 and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            limit -= 1
            yield json.loads(line)
