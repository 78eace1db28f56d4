"""Normalised parts: what `work` makes of one piece of the source, and reading the rows that stay, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID
from millrace.datasets.keys import row_keys
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.repair import Place, Repairs, repair
from millrace_cleaning.split import Codes
from millrace_cleaning.steps.recipe import load, removals, run

# Columns beside the user's; a dot at the start keeps them apart from sensible names.
ROW, LOW, HIGH = ".row", ".key_low", ".key_high"

ROWS_PER_BATCH = 8192
Pieces = Mapping[int, Sequence[tuple[int, int, int]]]
"""Position among the rows that stay -> (start, end, split code) of each piece of its text."""


def write_part(
    target: Path,
    batches: Iterable[pa.RecordBatch],
    *,
    plan: CleaningPlan,
    null_values: Sequence[str],
    path: str,
    first_row: int,
    first_in_file: int,
    repairs: Repairs,
    seed: int,
) -> int:
    """Repair raw batches, run the recipe, and write what stays with its keys; return how many rows stayed.

    Args:
        first_row: Ordinal in the whole source of the part's first row.
        first_in_file: The same in its file, for messages.
    """
    key_columns = [c.name for c in plan.with_role("feature")]
    steps = load(plan.steps)
    writer: pq.ParquetWriter | None = None
    num_rows = num_seen = 0
    for batch in batches:
        place = Place(path=path, first_row=first_in_file + num_seen)
        clean, keep = repair(batch, plan, null_values=null_values, place=place, repairs=repairs)
        ran = run(clean, steps, keep=keep, seed=seed)
        for name, count in removals(ran.findings, plan.steps):
            repairs.removed[name] += count
        low, high = row_keys(ran.batch, key_columns)
        arrays = [pa.array(ran.rows + (first_row + num_seen)), pa.array(low), pa.array(high), *ran.batch.columns]
        kept = pa.RecordBatch.from_arrays(arrays, names=[ROW, LOW, HIGH, *ran.batch.schema.names])
        writer = writer or pq.ParquetWriter(target, kept.schema, compression="lz4", use_dictionary=False)
        writer.write_batch(kept)
        num_rows += kept.num_rows
        num_seen += batch.num_rows
    if writer is not None:
        writer.close()
    return num_rows


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all parts that stay, in the source's order.

    Attributes:
        parts: Part files, in order.
        source: First 16 hex digits of the source's digest, for row ids.
        codes: Of each row of the parts: its split's code, or -1 for a duplicate.
        pieces: Rows whose text is cut between splits.
        text: The column that is cut.
    """

    parts: Sequence[Path]
    source: str
    codes: Codes
    pieces: Pieces = field(default_factory=dict)
    text: str = ""

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, Codes]]:
        """Yield (batch with row_id first, code of each row). Batches are cut alike however the parts were cut."""
        position = 0
        for batch, codes in _evenly(self._kept()):
            cut = [i for i in range(position, position + batch.num_rows) if i in self.pieces] if self.pieces else []
            position += batch.num_rows
            ids = _row_ids(self.source, batch.column(ROW))
            named = pa.RecordBatch.from_arrays(
                [ids, *batch.columns[3:]], schema=pa.schema([pa.field(ROW_ID, pa.string()), *list(batch.schema)[3:]])
            )
            if cut:
                yield self._cut(named, codes, first=position - batch.num_rows)
            else:
                yield named, codes

    def _kept(self) -> Iterator[tuple[pa.RecordBatch, Codes]]:
        begin = 0
        for batch in read_parts(self.parts):
            codes = self.codes[begin : begin + batch.num_rows]
            begin += batch.num_rows
            keep = codes >= 0
            yield batch.filter(pa.array(keep)), codes[keep]

    def _cut(self, batch: pa.RecordBatch, codes: Codes, *, first: int) -> tuple[pa.RecordBatch, Codes]:
        """Replace each cut row by its pieces; later pieces have `.1`, `.2` after their row id."""
        taken, ids, texts, new_codes = [], [], [], []
        whole_ids, whole_texts = batch.column(ROW_ID).to_pylist(), batch.column(self.text).to_pylist()
        for i in range(batch.num_rows):
            pieces = self.pieces.get(first + i, ((0, len(whole_texts[i]), int(codes[i])),))
            for number, (start, end, code) in enumerate(pieces):
                taken.append(i)
                ids.append(whole_ids[i] + (f".{number}" if number else ""))
                texts.append(whole_texts[i][start:end])
                new_codes.append(code)
        rows = batch.take(pa.array(taken))
        rows = rows.set_column(0, ROW_ID, pa.array(ids, pa.string()))
        rows = rows.set_column(rows.schema.get_field_index(self.text), self.text, pa.array(texts, pa.string()))
        return rows, np.array(new_codes, dtype=np.int8)


def read_parts(parts: Sequence[Path], *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the parts' rows in order, with the named columns or all."""
    for part in parts:
        if part.exists():  # a part of which no row was read has no file
            file = pq.ParquetFile(part)
            wanted = None if columns is None else list(columns)
            yield from file.iter_batches(batch_size=ROWS_PER_BATCH, columns=wanted, use_threads=False)


def read_keys(parts: Sequence[Path]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Both halves of all rows' keys: 16 bytes a row in memory."""
    low, high = [], []
    for batch in read_parts(parts, columns=[LOW, HIGH]):
        low.append(batch.column(LOW).to_numpy())
        high.append(batch.column(HIGH).to_numpy())
    empty = np.empty(0, dtype=np.uint64)
    return np.concatenate([empty, *low]), np.concatenate([empty, *high])


def _evenly(batches: Iterable[tuple[pa.RecordBatch, Codes]]) -> Iterator[tuple[pa.RecordBatch, Codes]]:
    """Cut a stream of batches into ones of ROWS_PER_BATCH rows, so that sums over them round alike."""
    pending: list[pa.RecordBatch] = []
    waiting = np.empty(0, dtype=np.int8)
    for batch, codes in batches:
        pending.append(batch)
        waiting = np.concatenate([waiting, codes])
        while len(waiting) >= ROWS_PER_BATCH:
            rows = pa.Table.from_batches(pending)
            yield _one_batch(rows.slice(0, ROWS_PER_BATCH)), waiting[:ROWS_PER_BATCH]
            pending, waiting = rows.slice(ROWS_PER_BATCH).to_batches(), waiting[ROWS_PER_BATCH:]
    if len(waiting):
        yield _one_batch(pa.Table.from_batches(pending)), waiting


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.concat_arrays(c.chunks) for c in rows.columns], schema=rows.schema)


def _row_ids(source: str, ordinals: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(source, ordinals.cast(pa.string()), "-")
