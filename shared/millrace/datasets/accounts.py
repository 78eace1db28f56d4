"""What became of rows on their way through cleaning: every one that a rule removed, changed or flagged."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.schema import ROW_ID
from millrace.datasets.reading import Dataset

FOLDER = "account"
Action = Literal["removed", "changed", "flagged"]
_Said = tuple[str, str, Action]
_SAID = ("step", "rule", "action")


class Entry(Contract):
    """What one rule did to one row."""

    row_id: str
    file: str = Field(description="Of the source.")
    row: int = Field(description="In its file, from 1.")
    step: str
    rule: str
    action: Action
    column: str = ""
    value: float | None = Field(default=None, description="What was measured.")
    limit: float | None = Field(default=None, description="What it was held against.")
    detail: str | None = None


class RuleCount(Contract):
    """How many rows one rule touched; one that it touched in several columns is one."""

    step: str
    rule: str
    action: Action
    rows: int


class Account(Contract):
    """The entries that were asked for, and how many there are by rule."""

    counts: tuple[RuleCount, ...] = Field(description="By step, then the most first.")
    entries: tuple[Entry, ...]
    num_entries: int = Field(description="How many were asked for; `entries` may hold fewer.")


def read_account(
    dataset: Dataset, *, row: str = "", rule: str = "", action: Action | None = None, max_entries: int = 100
) -> Account:
    """Return what became of rows.

    Args:
        row: A row_id, or `FILE:NUMBER` as the source's owner counts; empty for all rows.
        rule: Name of a rule or a step, or of both as reports have it (`check_table.ge`, `null_age`); empty for all.
    """
    counts: Counter[_Said] = Counter()
    last = _Last()
    entries: list[Entry] = []
    num_entries = 0
    for batch in _batches(dataset):
        chosen = batch.filter(_mask(batch, row=row, rule=rule, action=action))
        counts.update(last.rows_by_rule(chosen))
        num_entries += chosen.num_rows
        entries += map(_entry, chosen.slice(0, max(0, max_entries - len(entries))).to_pylist())
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return Account(
        counts=tuple(RuleCount(step=s, rule=r, action=a, rows=n) for (s, r, a), n in ordered),
        entries=tuple(entries),
        num_entries=num_entries,
    )


@dataclass(slots=True)
class _Last:
    """The last row of the batches so far, and what was said of it: its entries may go on in the next batch."""

    row_id: str = ""
    said: set[_Said] = field(default_factory=set)

    def rows_by_rule(self, batch: pa.RecordBatch) -> Counter[_Said]:
        """How many rows are touched in this batch, by rule, that were not counted before."""
        distinct = pa.Table.from_batches([batch]).group_by([ROW_ID, *_SAID]).aggregate([])
        rows = Counter({_said(group): group["count_all"] for group in _counted(distinct)})
        if batch.num_rows:
            again = distinct.filter(pc.equal(distinct.column(ROW_ID), self.row_id))
            rows.subtract(self.said.intersection(map(_said, again.to_pylist())))
            self._end(distinct, batch.column(ROW_ID)[-1].as_py())
        return rows

    def _end(self, distinct: pa.Table, row_id: str) -> None:
        said = set(map(_said, distinct.filter(pc.equal(distinct.column(ROW_ID), row_id)).to_pylist()))
        self.row_id, self.said = row_id, said | self.said if row_id == self.row_id else said


def _counted(distinct: pa.Table) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = distinct.group_by(list(_SAID)).aggregate([([], "count_all")]).to_pylist()
    return groups


def _said(group: Mapping[str, Any]) -> _Said:
    return group["step"], group["rule"], group["action"]


def _batches(dataset: Dataset) -> Iterator[pa.RecordBatch]:
    for path in sorted((dataset.root / FOLDER).glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield _plain(batch)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Words in place of codes, so that batches of several files group alike."""
    arrays = [a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _mask(batch: pa.RecordBatch, *, row: str, rule: str, action: Action | None) -> pa.Array:
    mask = pa.array([True] * batch.num_rows, pa.bool_())
    file, colon, number = row.rpartition(":")
    if colon and number.isdigit():
        here = pc.and_(pc.equal(batch.column("file"), file), pc.equal(batch.column("row"), int(number)))
        mask = pc.and_(mask, here)
    elif row:
        mask = pc.and_(mask, pc.equal(batch.column("row_id"), row))
    if rule:
        mask = pc.and_(mask, _is_called(batch, rule))
    return pc.and_(mask, pc.equal(batch.column("action"), action)) if action else mask


def _is_called(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Which entries are of a rule or a step of this name."""
    step, rule, column = (batch.column(part) for part in ("step", "rule", "column"))
    both = pc.binary_join_element_wise(step, rule, ".")
    of_column = pc.binary_join_element_wise(rule, column, "_")
    is_it = [pc.fill_null(pc.equal(names, name), False) for names in (step, rule, both, of_column)]
    return functools.reduce(pc.or_, is_it)


def _entry(row: dict[str, Any]) -> Entry:
    return Entry.model_validate({name: row[name] for name in Entry.model_fields if row.get(name) is not None})
