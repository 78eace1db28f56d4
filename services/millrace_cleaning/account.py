"""The account: every row that a rule removed, changed or flagged, with what was measured. Never what a row holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID
from millrace_cleaning import repair
from millrace_cleaning.steps.findings import FINDINGS

Ints = npt.NDArray[np.int64]
Slice = tuple[str, int, int]
"""A shelved file of entries, and which of its rows: the first and the one past the last."""

DEDUP, NEAR_DEDUP = "dedup", "near_dedup"
BETWEEN_ROWS = (DEDUP, NEAR_DEDUP)
"""Under which names the account says what rows have to do with one another."""

ENTRIES_PER_FILE = 262_144
_PER_GROUP = 32_768
_ORDINAL = ".ordinal"
_NAMES = ("rule", "action", "column", "value", "limit", "detail")
_PLACE = [pa.field("file", pa.string()), pa.field("row", pa.int64()), pa.field("step", pa.string())]
_SAID = [pa.field(name, pa.string() if name not in ("value", "limit") else pa.float64()) for name in _NAMES]
ENTRIES = pa.schema([pa.field(_ORDINAL, pa.int64()), *_PLACE, *_SAID])
"""Entries as tasks hand them on: by the row's ordinal in the source; `row` is its number in its file, from 1."""
ACCOUNT = pa.schema([pa.field(ROW_ID, pa.string()), *_PLACE, *_SAID])
"""Entries as a data set has them, in `account/part-<5 digits>.parquet`."""


@dataclass(slots=True)
class Tally:
    """Counts of findings.

    Attributes:
        rules: Rows by (step, rule, action).
        removed: Rows by the first rule that they broke: `null_<column>`, `duplicate`, or a recipe's step and rule.
        unparseable: Values by column.
    """

    rules: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    unparseable: Counter[str] = field(default_factory=Counter)

    def add(self, step: str, findings: pa.Table) -> None:
        """Count what one step found in one batch (FINDINGS)."""
        rows = findings.group_by(["rule", "action", "row"]).aggregate([])  # a rule may judge several columns of a row
        for group in rows.group_by(["rule", "action"]).aggregate([([], "count_all")]).to_pylist():
            self.rules[step, group["rule"], group["action"]] += group["count_all"]
        if step == repair.STEP:
            values = findings.filter(pc.equal(findings.column("rule"), "unparseable"))
            self.unparseable.update(values.column("column").to_pylist())
        gone = findings.filter(pc.equal(findings.column("action"), "removed"))
        first = pa.array(np.unique(gone.column("row").to_numpy(), return_index=True)[1])
        for rule, column in zip(
            *(gone.column(name).take(first).to_pylist() for name in ("rule", "column")), strict=True
        ):
            self.removed[_removal(step, rule, column)] += 1

    def merge(self, other: Tally) -> None:
        self.rules.update(other.rules)
        self.removed.update(other.removed)
        self.unparseable.update(other.unparseable)

    def to_json(self) -> dict[str, Any]:
        rules = [[*key, count] for key, count in sorted(self.rules.items())]
        return {"rules": rules, "removed": dict(self.removed), "unparseable": dict(self.unparseable)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tally:
        rules = Counter({(step, rule, action): count for step, rule, action, count in value["rules"]})
        return cls(rules, Counter(value["removed"]), Counter(value["unparseable"]))


def entries(
    found: Iterable[tuple[str, pa.Table]], *, ordinals: Ints, files: Sequence[str], numbers: Ints,
    only: Literal["removed", "all"],
) -> pa.Table:  # fmt: skip
    """Turn what steps found in one batch into ENTRIES, by row and then in the order of the steps.

    Args:
        found: Label of a step, and its FINDINGS.
        ordinals: Of the batch's rows, in the source.
        files: Of the batch's rows.
        numbers: Of the batch's rows, in their file, from 0.
        only: Whether findings of rows that stay are left out.
    """
    tables = [ENTRIES.empty_table()]
    for step, table in found:
        if only == "removed":
            table = table.filter(pc.equal(table.column("action"), "removed"))
        at = table.column("row").to_numpy()
        paths = [files[i] for i in at.tolist()]
        place = [pa.array(ordinals[at]), pa.array(paths, pa.string()), pa.array(numbers[at] + 1)]
        said = [table.column(name).cast(f.type) for name, f in zip(_NAMES, _SAID, strict=True)]
        tables.append(pa.table([*place, pa.array([step] * len(at), pa.string()), *said], schema=ENTRIES))
    whole = pa.concat_tables(tables).combine_chunks()
    return whole.take(pa.array(np.argsort(whole.column(_ORDINAL).to_numpy(), kind="stable")))


def _removal(step: str, rule: str, column: str) -> str:
    if step == repair.STEP:
        return f"{rule}_{column}"
    if step in BETWEEN_ROWS:
        return rule
    family, dot, own = rule.partition(".")
    return f"{step}.{own if dot and step.startswith(family) else rule}"  # a rule may begin with its step's name


def slices(files: Iterable[tuple[str, int]]) -> Iterator[list[Slice]]:
    """Cut files of entries (name, number of entries), one after another, into accounts of ENTRIES_PER_FILE."""
    pending: list[Slice] = []
    room = ENTRIES_PER_FILE
    for name, total in files:
        begin = 0
        while begin < total:
            end = min(begin + room, total)
            pending.append((name, begin, end))
            room -= end - begin
            begin = end
            if not room:
                yield pending
                pending, room = [], ENTRIES_PER_FILE
    if pending:
        yield pending


def write_account(target: Path, pieces: Iterable[tuple[Path, int, int]], *, row_prefix: str) -> None:
    """Write one file of ACCOUNT from slices of files of ENTRIES."""
    tables = [ENTRIES.empty_table()]
    for file, begin, end in pieces:
        tables.append(pq.read_table(file, schema=ENTRIES, use_threads=False).slice(begin, end - begin))
    whole = pa.concat_tables(tables)
    ids = pc.binary_join_element_wise(row_prefix, whole.column(_ORDINAL).cast(pa.string()), "-")
    table = pa.table([ids, *whole.columns[1:]], schema=ACCOUNT).combine_chunks()
    pq.write_table(table, target, compression="zstd", row_group_size=_PER_GROUP)


assert set(_NAMES) < set(FINDINGS.names), "an account says what findings say"
