"""What stands on both sides of a split: equal rows, groups, times. Counted over all rows, 34 bytes of memory a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.contracts.schema import ROW_ID, Column
from millrace.datasets.keys import UInt64s, row_keys, value_keys
from millrace_cleaning.audit.matrix import Ints
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import SPLITS, Codes, Data

MAX_LISTED = 100_000
LEAKED_SCHEMA = pa.schema(
    [
        pa.field(ROW_ID, pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("other_row_id", pa.string(), nullable=False),
        pa.field("other_split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
"""One row of an evaluating split that stands, `exact` or `near`, in an earlier split too."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that met another of an earlier split, by their positions in the data set.

    Attributes:
        rows: Position of each (L,).
        others: Position of one that it met (L,).
        kind: `exact` or `near`.
    """

    rows: Ints
    others: Ints
    kind: str


@dataclass(slots=True)
class RowKeys:
    """Keys of all rows over the features, and of their target."""

    features: Sequence[str]
    target: str
    keys: list[tuple[UInt64s, UInt64s]] = field(default_factory=list)
    targets: list[UInt64s] = field(default_factory=list)
    codes: list[Codes] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, code: int) -> None:
        self.keys.append(row_keys(batch, self.features))
        self.codes.append(np.full(batch.num_rows, code, dtype=np.int8))
        if self.target:
            self.targets.append(value_keys(batch.column(self.target)))

    def findings(self) -> tuple[list[Finding], Pairs]:
        """Equal rows in two splits, and equal rows with different targets."""
        low, high = (np.concatenate([k[half] for k in self.keys]) for half in (0, 1))
        codes = np.concatenate(self.codes)
        order = np.lexsort((codes, low, high))  # stable: within a split in the rows' order
        first = _starts(low[order], high[order])
        origin = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
        leaked = codes[order] > codes[origin]
        by_place = np.argsort(order[leaked])
        pairs = Pairs(rows=order[leaked][by_place], others=origin[leaked][by_place], kind="exact")
        found = list(_duplicates(codes, pairs))
        if self.target:
            found += _contradictions(np.concatenate(self.targets)[order], first)
        return found, pairs


def _starts(low: UInt64s, high: UInt64s) -> npt.NDArray[np.bool_]:
    """Where in a sorted sequence another key begins."""
    first = np.ones(len(low), dtype=np.bool_)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return first


def _duplicates(codes: Codes, pairs: Pairs) -> Iterator[Finding]:
    counts = {name: int(np.count_nonzero(codes[pairs.rows] == code)) for code, name in enumerate(SPLITS) if code > 0}
    total = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(SPLITS)}
    if not len(pairs.rows):
        return
    worst = max(counts, key=lambda name: counts[name] / max(total[name], 1))
    share = counts[worst] / max(total[worst], 1)
    yield Finding(
        code="exact_duplicates", severity="error" if share >= 0.01 else "warning",
        message=f"{counts[worst]:,} of {total[worst]:,} rows of {worst} ({share:.1%}) have the features of a row of an "
        "earlier split.",
        evidence={"rows": counts, "of": {name: total[name] for name in counts}, "share": round(share, 6)},
        remedy="Clean with `dedup: true`, or without a `dedup` that is false; each is listed in leaked_rows.parquet.",
    )  # fmt: skip


def _contradictions(targets: UInt64s, first: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    """Rows with equal features whose targets differ: at most one of them is right, or something is missing."""
    group = np.cumsum(first) - 1
    differs = targets != targets[np.flatnonzero(first)][group]
    groups = np.unique(group[differs])
    if len(groups):
        rows = int(np.isin(group, groups).sum())
        yield Finding(
            code="contradictions", severity="warning",
            message=f"{rows:,} rows stand in {len(groups):,} groups of equal features whose targets differ.",
            evidence={"rows": rows, "groups": len(groups), "share": round(rows / len(targets), 6)},
            remedy="Look for wrong labels, or for the feature that would tell these rows apart.",
        )  # fmt: skip


@dataclass(slots=True)
class Groups:
    """Which values of a group stand in which splits."""

    column: str
    seen: list[tuple[UInt64s, Ints, int]] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, code: int) -> None:
        array = batch.column(self.column)
        keys, counts = np.unique(value_keys(array.drop_null()), return_counts=True)
        self.seen.append((keys, counts, code))
        if len(self.seen) >= 64:  # so that memory grows with groups, not with rows
            self.seen = self._merged()

    def _merged(self) -> list[tuple[UInt64s, Ints, int]]:
        merged = []
        for code in sorted({entry[2] for entry in self.seen}):
            keys = np.concatenate([k for k, _, c in self.seen if c == code])
            counts = np.concatenate([n for _, n, c in self.seen if c == code])
            unique, place = np.unique(keys, return_inverse=True)
            merged.append((unique, np.bincount(place, weights=counts, minlength=len(unique)).astype(np.int64), code))
        return merged

    def findings(self) -> Iterator[Finding]:
        sides = {code: (keys, counts) for keys, counts, code in self._merged()}
        train = sides.get(0, (np.empty(0, np.uint64), np.empty(0, np.int64)))[0]
        evidence, worst = {}, 0.0
        for code, (keys, counts) in sides.items():
            both = np.isin(keys, train)
            if code and both.any():
                share = float(counts[both].sum() / counts.sum())
                worst = max(worst, share)
                evidence[SPLITS[code]] = {"groups": int(both.sum()), "of": len(keys), "row_share": round(share, 6)}
        if evidence:
            yield Finding(
                code="group_leak", severity="error", column=self.column,
                message=f"Values of {self.column!r} stand in train and outside of it, with up to {worst:.0%} of a split's "
                "rows: what is measured there is how well the model knows them.",
                evidence=evidence, remedy=f"Clean with `split: {{by: {self.column}}}`.",
            )  # fmt: skip


def time_findings(data: Data, column: Column) -> Iterator[Finding]:
    """Whether training rows are later than the first row that judges. Reads the column twice."""
    ranges: dict[int, tuple[float, float]] = {}
    for values, code in _moments(data, column.name):
        low, high = ranges.get(code, (np.inf, -np.inf))
        ranges[code] = (min(low, values.min()), max(high, values.max()))
    judging = next((code for code in (2, 1) if code in ranges), None)
    if judging is None or 0 not in ranges or ranges[0][1] < ranges[judging][0]:
        return
    begin, late, total = ranges[judging][0], 0, 0
    for values, code in _moments(data, column.name):
        if code == 0:
            late, total = late + int((values >= begin).sum()), total + len(values)
    yield Finding(
        code="time_leak", severity="error" if late >= 0.01 * total else "warning", column=column.name,
        message=f"{late:,} of {total:,} training rows ({late / total:.1%}) are not earlier than the first row of "
        f"{SPLITS[judging]}: the model learns from the future of what it is judged on.",
        evidence={"rows": late, "of": total, "share": round(late / total, 6), "split": SPLITS[judging]},
        remedy=f"Clean with `split: {{time: {column.name}}}`.",
    )  # fmt: skip


def _moments(data: Data, column: str) -> Iterator[tuple[npt.NDArray[np.float64], int]]:
    for batch, code in data.batches([column]):
        array = batch.column(0).drop_null()
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.int64())
        if len(array) and (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
            yield array.cast(pa.float64()).to_numpy(zero_copy_only=False), code


def leaked_rows(data: Data, found: Sequence[Pairs]) -> pa.Table:
    """The rows behind the findings by their ids; at most a hundred thousand of each kind."""
    kept = [Pairs(p.rows[:MAX_LISTED], p.others[:MAX_LISTED], p.kind) for p in found if len(p.rows)]
    if not kept:
        return LEAKED_SCHEMA.empty_table()
    wanted = np.unique(np.concatenate([positions for p in kept for positions in (p.rows, p.others)]))
    ids: list[str] = []
    splits: list[str] = []
    begin = 0
    for batch, code in data.batches([ROW_ID]):
        here = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, begin + batch.num_rows)] - begin
        ids += batch.column(0).take(pa.array(here)).to_pylist()
        splits += [SPLITS[code]] * len(here)
        begin += batch.num_rows
    tables = []
    for pairs in kept:
        columns = []
        for positions in (pairs.rows, pairs.others):
            place = np.searchsorted(wanted, positions)
            columns += [[ids[i] for i in place], [splits[i] for i in place]]
        tables.append(pa.table([*columns, [pairs.kind] * len(pairs.rows)], schema=LEAKED_SCHEMA))
    return pa.concat_tables(tables)
