"""A child's output, line by line: the whole of it kept up to a size, and a bounded tail of it sent on live."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

from millrace.contracts.artifacts import ArtifactRef
from millrace.store import Store
from millrace.store.artifacts import write_manifest

HEAD_BYTES = 12 * 2**20
TAIL_BYTES = 4 * 2**20
"""Of a longer log the middle is left out: how it began and how it ended tell the most."""

MAX_LINE_BYTES = 64 * 1024
LIVE_LINES = 200
"""Lines that wait to be sent on; older ones are dropped and counted, as they are in the log anyway."""


class LogCapture:
    """Reads a child's log pipe. For one thread."""

    def __init__(self, fd: int, path: Path) -> None:
        """fd is non-blocking; path is where the log is spooled."""
        self._fd = fd
        self._path = path
        self._file: BinaryIO | None = None
        self._partial = b""
        self._head_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out_bytes = 0
        self._live: deque[str] = deque(maxlen=LIVE_LINES)
        self._num_dropped = 0

    def read(self) -> bool:
        """Take what has arrived; whether anyone can still write."""
        while True:
            try:
                data = os.read(self._fd, 65_536)
            except BlockingIOError:
                return True
            if not data:
                self._end_line()
                return False
            self._take(data)

    def end(self) -> None:
        """Take the attempt's last words. A warm child has flushed them, and says no more before its next attempt."""
        self.read()
        self._end_line()

    def follow(self, fd: int) -> None:
        """Read another child's pipe from now on."""
        self._fd = fd

    @property
    def has_live(self) -> bool:
        return bool(self._live)

    def take_live(self) -> dict[str, Any] | None:
        """Lines since the last call as a signal's payload: `{"lines": [{"text", "level", "time"}], "dropped"}`."""
        if not self._live:
            return None
        payload = {"lines": [_as_line(text) for text in self._live], "dropped": self._num_dropped}
        self._live.clear()
        self._num_dropped = 0
        return payload

    def store(self, store: Store) -> ArtifactRef | None:
        """Keep the whole log as an artifact with the file `log.jsonl`; None if the child said nothing."""
        self._end_line()
        if self._file is None:
            return None
        if self._left_out_bytes:
            self._file.write(b'{"event":"log_shortened","left_out_bytes":%d}\n' % self._left_out_bytes)
        self._file.writelines(self._tail)
        self._file.close()
        return write_manifest(store, "logs", {"log.jsonl": self._path}, meta={})

    def remove(self) -> None:
        """Forget the spooled log."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._keep(line)
        if len(self._partial) > MAX_LINE_BYTES:
            self._end_line()

    def _end_line(self) -> None:
        if self._partial:
            self._keep(self._partial)
            self._partial = b""

    def _keep(self, line: bytes) -> None:
        self._num_dropped += len(self._live) == LIVE_LINES
        self._live.append(line.decode("utf-8", "replace"))
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        if self._head_bytes + len(line) < HEAD_BYTES:
            self._head_bytes += self._file.write(line + b"\n")
            return
        self._tail.append(line + b"\n")
        self._tail_bytes += len(line) + 1
        while self._tail_bytes > TAIL_BYTES:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self._left_out_bytes += dropped


def _as_line(text: str) -> dict[str, Any]:
    """A structlog line with its parts named, or any other line as it is."""
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
        if isinstance(fields, dict) and "event" in fields:
            shown = {k: v for k, v in fields.items() if k not in _BOUND}
            values = "".join(f" {k}={v}" for k, v in shown.items() if k not in ("event", "level", "time"))
            return {
                "text": f"{fields['event']}{values}",
                "level": fields.get("level", ""),
                "time": fields.get("time", ""),
            }
    return {"text": text, "level": "", "time": ""}


_BOUND = ("run", "stage", "task", "attempt")
