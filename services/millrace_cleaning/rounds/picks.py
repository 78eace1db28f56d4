"""Which rows of which parts one shard of the data set is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.schema import SplitName
from millrace_cleaning.divide import Division
from millrace_cleaning.parts import ROW, picked
from millrace_cleaning.rounds.book import DonePart
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.split import SPLITS

Ints = npt.NDArray[np.int64]

_PART, _AT, _START, _END, _NUMBER = "part", "row", "start", "end", "number"
_FILES = b"files"


@dataclass(frozen=True, slots=True)
class Picks:
    """The rows of one shard, in order.

    Attributes:
        files: Of each part that has some, its shelved files by what they hold.
        table: Of each row, its part (a position in files) and its position there; and where its text is cut.
    """

    files: Sequence[dict[str, str]]
    table: pa.Table

    @property
    def is_cut(self) -> bool:
        return _START in self.table.column_names

    def numbers(self, name: str) -> Ints:
        found: Ints = self.table.column(name).to_numpy()
        return found

    def read(self, job: Job, kind: str, *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows, as the parts' files of a kind have them, a row group at a time."""
        parts, rows = self.numbers(_PART), self.numbers(_AT)
        for part, names in enumerate(self.files):
            begin, end = np.searchsorted(parts, [part, part + 1])
            yield from picked(job.shelf.get(names[kind]), rows[begin:end], columns=columns)

    def row_ids(self, job: Job) -> pa.Array:
        """Ids of all rows: prefix, ordinal, and from the second piece of a cut text on `.1`, `.2`."""
        ordinals = pa.concat_arrays([batch.column(0) for batch in self.read(job, "keys", columns=[ROW])])
        ids = pc.binary_join_element_wise(job.row_prefix, ordinals.cast(pa.string()), "-")
        if not self.is_cut:
            return ids
        numbers = self.table.column(_NUMBER).combine_chunks()
        later = pc.binary_join_element_wise(ids, numbers.cast(pa.string()), ".")
        return pc.if_else(pc.greater(numbers, 0), later, ids)

    def cut(self, texts: pa.Array, *, begin: int) -> pa.Array:
        """The pieces of texts; begin: the position in the shard of the first."""
        here = slice(begin, begin + len(texts))
        bounds = zip(texts.to_pylist(), self.numbers(_START)[here], self.numbers(_END)[here], strict=True)
        return pa.array([None if text is None else text[start:end] for text, start, end in bounds], pa.string())

    def sizes(self, *, begin: int, num_rows: int) -> pa.Array:
        """How many characters the pieces have."""
        return pa.array((self.numbers(_END) - self.numbers(_START))[begin : begin + num_rows])


def shelve_picks(
    job: Job, division: Division, parts: Sequence[DonePart], *, rows_per_shard: int
) -> Iterator[tuple[SplitName, str]]:
    """Shelve the picks of every shard of every split; yield its split and the picks' name."""
    bounds = np.cumsum([0, *(part.kept for part in parts)])
    for code, split in enumerate(SPLITS):
        chosen = np.flatnonzero(division.codes == code)
        for begin in range(0, len(chosen), rows_per_shard):
            yield split, _shelve(job, division, chosen[begin : begin + rows_per_shard], parts, bounds)


def _shelve(job: Job, division: Division, at: Ints, parts: Sequence[DonePart], bounds: Ints) -> str:
    rows = division.rows[at]
    part = np.searchsorted(bounds, rows, side="right") - 1
    used, numbers = np.unique(part, return_inverse=True)
    columns = {_PART: pa.array(numbers.astype(np.int32)), _AT: pa.array((rows - bounds[part]).astype(np.int64))}
    if division.cuts is not None:
        cuts = division.cuts
        columns |= {_START: pa.array(cuts.start[at]), _END: pa.array(cuts.end[at]), _NUMBER: pa.array(cuts.number[at])}
    files = [{kind: parts[i].files[kind] for kind in ("rows", "keys", "measures")} for i in used.tolist()]
    table = pa.table(columns).replace_schema_metadata({_FILES: json.dumps(files).encode()})
    target = job.path("picks.parquet")
    pq.write_table(table, target, compression="zstd")
    return job.shelf.put(target)


def read_picks(file: Path) -> Picks:
    table = pq.read_table(file, use_threads=False)
    return Picks(json.loads(table.schema.metadata[_FILES]), table)
