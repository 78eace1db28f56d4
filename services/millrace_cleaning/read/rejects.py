"""What could not be read: readers report it here, row by row and file by file, and here the policy decides.

How a consumer uses it, in both passes over a part (`first_row`: rows of the file before this part, bad ones included):

    rejects = Rejects.of(config, sink=write_quarantine_batch, first_row=task["row_in_file"])
    for batch in read_part(files, part, config=config, rejects=rejects):
        numbers = rejects.numbers(batch.num_rows)   # each row's number in its file from 0, bad rows counted
        ...
    rejects.flush()
    rejects.counts()    # JSON: {"rows": {reason: n}, "files": {reason: n}, "replaced": n}; num_rows: bad rows in all

Under `fail` the reader raises InvalidData at the first fault, with file, line and remedy. Under `skip` faults are counted.
Under `quarantine` they also go to `sink`, in batches of QUARANTINE's columns, as they are found; a consumer that only
counts, such as a scan, gives no sink.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace import errors
from millrace_cleaning.read_settings import BadInputPolicy, ReadConfig

MAX_RAW_BYTES = 64 * 2**10
"""How much of a bad row's bytes is kept."""

_FLUSH_BYTES = 4 * 2**20

QUARANTINE = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("row", pa.int64()),
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),
        pa.field("size_bytes", pa.int64()),
    ]
)
"""One bad row or file. kind: `row` or `file`; row and line: numbers in the file from 1; reason: a code such as
`ragged`; raw: the row's first bytes, of size_bytes in all."""


class BadFile(errors.InvalidData):
    """A file, or the rest of it, that cannot be read. Readers raise it; `read_part` hands it to the policy.

    Attributes:
        reason: A code, such as `truncated`.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "", field: str = "", **context: Any) -> None:
        super().__init__(message, remedy=remedy, field=field, **context)
        self.reason = reason


@dataclass(slots=True)
class Rejects:
    """Counts, refuses or hands on what a part's reader could not read.

    Attributes:
        on_bad_row, on_bad_file: The policies.
        sink: Takes quarantined rows, as batches of QUARANTINE.
        keeps_raw: Whether a quarantined row keeps its bytes; not where a column is private.
        first_row: How many of the file's rows stand before the part.
        offset: How many of the part's rows stand before what is being read; moved by an archive's reader.
        rows, files: How many, by reason.
        replaced: Rows in which bytes were replaced by U+FFFD.
    """

    on_bad_row: BadInputPolicy = "fail"
    on_bad_file: BadInputPolicy = "fail"
    sink: Callable[[pa.RecordBatch], None] | None = None
    keeps_raw: bool = True
    first_row: int = 0
    offset: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    replaced: int = 0
    _kept: list[dict[str, Any]] = field(default_factory=list)
    _kept_bytes: int = 0
    _bad: list[int] = field(default_factory=list)
    _next: int = 0

    @classmethod
    def of(
        cls, config: ReadConfig, *, sink: Callable[[pa.RecordBatch], None] | None = None, first_row: int = 0,
        keeps_raw: bool = True,
    ) -> Rejects:  # fmt: skip
        return cls(config.on_bad_row, config.on_bad_file, sink=sink, keeps_raw=keeps_raw, first_row=first_row)

    @property
    def num_rows(self) -> int:
        """How many bad rows there were."""
        return self.rows.total()

    def row(
        self, path: str, message: str, *, reason: str, position: int, line: int | None = None, remedy: str = "",
        raw: bytes = b"", size_bytes: int | None = None, field: str = "",
    ) -> None:  # fmt: skip
        """Report a bad row.

        Args:
            message: The whole sentence, with file and line.
            position: Among the rows after `offset`, from 0, bad ones included. Reported in ascending order.
            line: In the file, from 1, where lines mean something.
            raw: The row's bytes, or the first of them.
            size_bytes: Of the whole row; default: of raw.

        Raises:
            InvalidData: The policy is to fail.
        """
        if self.on_bad_row == "fail":
            raise errors.InvalidData(message, remedy=_with_way_out(remedy, "row"), field=field, line=line)
        self.rows[reason] += 1
        position += self.offset
        self._bad.append(position)
        if self.on_bad_row == "quarantine" and self.sink is not None:
            self._keep(
                kind="row", path=path, row=self.first_row + position + 1, line=line, reason=reason, message=message,
                raw=raw[:MAX_RAW_BYTES] if self.keeps_raw else None, size_bytes=len(raw) if size_bytes is None else size_bytes,
            )  # fmt: skip

    def file(self, path: str, fault: BadFile, *, size_bytes: int | None = None) -> None:
        """Report a bad file, or a bad member of an archive.

        Raises:
            BadFile: The policy is to fail.
        """
        if self.on_bad_file == "fail":
            fault.remedy = _with_way_out(fault.remedy, "file")
            raise fault
        self.files[fault.reason] += 1
        if self.on_bad_file == "quarantine" and self.sink is not None:
            line = fault.context.get("line")
            self._keep(
                kind="file", path=path, row=None, line=line, reason=fault.reason, message=fault.message, raw=None,
                size_bytes=size_bytes,
            )  # fmt: skip

    def pass_over(self, path: str, message: str, *, reason: str) -> None:
        """Count a file that is left out by any policy, such as a link in an archive."""
        self.files[reason] += 1
        if self.on_bad_file == "quarantine" and self.sink is not None:
            self._keep(
                kind="file", path=path, row=None, line=None, reason=reason, message=message, raw=None, size_bytes=None
            )

    def numbers(self, num_rows: int) -> npt.NDArray[np.int64]:
        """Where the next batch's rows stand in their file, from 0: bad rows, which no batch has, are counted too.

        To be called once for every batch, in order, before the next one is asked for.
        """
        # The k-th good row stands after as many bad ones as there are with (position - bad ones before it) <= k.
        taken = np.arange(num_rows, dtype=np.int64)
        gaps = np.asarray(self._bad, dtype=np.int64) - np.arange(len(self._bad)) - self._next
        before = np.searchsorted(gaps, taken, side="right")
        found = self._next + taken + before
        num_passed = int(before[-1]) if num_rows else 0
        self._next += num_rows + num_passed
        self._bad = self._bad[num_passed:]
        return found + self.first_row

    def counts(self) -> dict[str, Any]:
        """All counts, JSON-compatible."""
        return {"rows": dict(self.rows), "files": dict(self.files), "replaced": self.replaced}

    def flush(self) -> None:
        """Hand on what is still kept."""
        if self._kept and self.sink is not None:
            self.sink(pa.RecordBatch.from_pylist(self._kept, schema=QUARANTINE))
        self._kept, self._kept_bytes = [], 0

    def _keep(self, **values: Any) -> None:
        self._kept.append(values)
        self._kept_bytes += len(values["raw"] or b"") + 200
        if self._kept_bytes > _FLUSH_BYTES:
            self.flush()


def _with_way_out(remedy: str, kind: str) -> str:
    return f"{remedy} Or go on without it: `on_bad_{kind}: skip` or `quarantine`.".strip()
