"""A log file that never grows beyond a size: the newest lines in `name.log`, older ones in `name.log.1` and on."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 10 * 2**20
NUM_OLD = 3


class RotatingLog:
    """Appends whole lines. For one thread."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._num_old = num_old
        self._file = path.open("ab")
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
        self._file.flush()
        return lines

    def close(self) -> None:
        if self._partial:
            self._append(self._partial)
            self._partial = b""
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        if line.strip():
            self._last = line
        if self._file.tell() >= self._max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._num_old, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._numbered(self._num_old + 1).unlink(missing_ok=True)
        self.path.replace(self._numbered(1))
        self._file = self.path.open("ab")

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
