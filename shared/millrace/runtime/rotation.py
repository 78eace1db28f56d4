"""A log file that never grows beyond a size: the newest lines in `name.log`, older ones in `name.log.1` and on.

A full disk costs lines, not the process whose log it is: what could not be written is counted, and told once it can be.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import IO

MAX_BYTES = 10 * 2**20
NUM_OLD = 3


class RotatingLog:
    """Appends whole lines. For one thread."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._num_old = num_old
        self._file = _opened(path)
        self._num_lost = 0
        self._partial = b""
        self._last = b""

    @property
    def last_line(self) -> str:
        """The latest line that was not empty."""
        return self._last.decode("utf-8", "replace").strip()

    def write(self, data: bytes) -> list[bytes]:
        """Append; return the lines that became whole."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._append(line)
        return lines

    def close(self) -> None:
        if self._partial:
            self._append(self._partial)
            self._partial = b""
        self._file.close()

    def _append(self, line: bytes) -> None:
        if line.strip():
            self._last = line
        try:
            if self._num_lost:
                self._put(json.dumps({"event": "log_lines_lost", "lines": self._num_lost}).encode())
                self._num_lost = 0
            self._put(line)
            if self._file.tell() >= self._max_bytes:
                self._rotate()
        except OSError:
            self._num_lost += 1

    def _put(self, line: bytes) -> None:
        """Write a line whole, or nothing of it. Raises OSError."""
        begin = self._file.seek(0, os.SEEK_END)
        if self._file.write(line + b"\n") <= len(line):
            self._file.truncate(begin)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _rotate(self) -> None:
        for number in range(self._num_old, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._numbered(self._num_old + 1).unlink(missing_ok=True)
        self.path.replace(self._numbered(1))
        full, self._file = self._file, _opened(self.path)
        full.close()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _opened(path: Path) -> IO[bytes]:
    """For appending, without a buffer: what a full disk refused must not be tried again with every line."""
    return path.open("ab", buffering=0)
