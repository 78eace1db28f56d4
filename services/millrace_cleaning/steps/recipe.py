"""Running a recipe: steps in a row over one batch, every row that they touch accounted for."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace_cleaning.convert import storage_type
from millrace_cleaning.steps.findings import FINDINGS, Memo, Outcome, Scratch
from millrace_cleaning.steps.kinds import KINDS
from millrace_cleaning.steps.settings import StepConfig

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Columns = Mapping[str, tuple[ColumnType, Role]]

STEP = "step"
ACCOUNTED = pa.schema(
    [pa.field("row", pa.int64(), nullable=False), pa.field(STEP, pa.int16(), nullable=False), *list(FINDINGS)[1:]]
)
"""Findings of several steps: as FINDINGS, and the position of the step in its recipe."""


class Apply(Protocol):
    def __call__(self, batch: pa.RecordBatch, config: StepConfig, scratch: Scratch, /) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A step whose code is at hand. `index` is its position in the recipe."""

    index: int
    config: StepConfig
    apply: Apply


@dataclass(frozen=True, slots=True)
class Ran:
    """What is left of a batch.

    Attributes:
        batch: The rows that stay.
        rows: Their positions in the batch that was given.
        findings: ACCOUNTED; rows are positions in the batch that was given.
    """

    batch: pa.RecordBatch
    rows: Ints
    findings: pa.Table


def name_of(step: StepConfig) -> str:
    """What `step:` says."""
    return next(name for name, kind in KINDS.items() if type(step) is kind)


def resolve(steps: Sequence[StepConfig], columns: Columns) -> tuple[tuple[StepConfig, ...], Columns]:
    """Return the steps with the columns they work on, and the columns that they append: name -> type, role.

    Raises:
        InvalidData: A step names a column that there is not, or appends one that there is.
    """
    known = dict(columns)
    done = []
    for index, step in enumerate(steps):
        try:
            done.append(step.resolved(known))
        except errors.InvalidData as error:
            error.field = f"with.steps.{index}" + (f".{error.field}" if error.field else "")
            raise
        for name, type_, role in done[-1].added_columns():
            if name in known:
                raise errors.InvalidData(
                    f"The step {name_of(step)} appends a column {name!r}, and there is one of this name.",
                    remedy="Give it another name.",
                    field=f"with.steps.{index}",
                )
            known[name] = (type_, role)
    return tuple(done), {name: about for name, about in known.items() if name not in columns}


def load(steps: Sequence[StepConfig]) -> list[Step]:
    """Import the code of each step.

    Raises:
        StageFailed: The extra that a step needs is not installed here.
    """
    loaded = []
    for index, step in enumerate(steps):
        try:
            module = importlib.import_module(step.runs_in)
        except ImportError as error:
            if not step.extra or (error.name or "").startswith("millrace_"):
                raise
            raise errors.StageFailed(
                f"The step {name_of(step)} needs {error.name or 'a library'}, which is not installed here.",
                remedy=f"pip install 'millrace[{step.extra}]'",
                field=f"with.steps.{index}",
            ) from error
        loaded.append(Step(index=index, config=step, apply=module.apply))
    return loaded


def run(batch: pa.RecordBatch, steps: Sequence[Step], *, keep: Flags, seed: int) -> Ran:
    """Apply steps to the rows of a batch that are kept so far.

    A row that a step removes is seen by the judging steps that follow, so that they all see one array and share what they
    compute of it; what they say of it is not heard. Before a step that writes into columns such rows are taken out.
    """
    scratch = Scratch(memo=Memo(), seed=seed)
    rows = np.arange(batch.num_rows, dtype=np.int64)
    gone = ~keep
    found = [ACCOUNTED.empty_table()]
    for step in steps:
        if gone.all() or (step.config.is_changing and gone.any()):
            batch, rows, gone = _without(batch, rows, gone)
            scratch.memo.forget(batch.columns)
        if not batch.num_rows:
            batch = _extended(batch, step.config)
            continue
        outcome = step.apply(batch, step.config, scratch)
        assert outcome.batch.num_rows == batch.num_rows, f"{step.config.runs_in} lost rows"
        table = outcome.findings.table()
        at = table.column("row").to_numpy()
        if gone.any():
            heard = ~gone[at]
            table, at = table.filter(pa.array(heard)), at[heard]
        found.append(_accounted(table, rows[at], step.index))
        gone = gone | outcome.findings.removed(batch.num_rows)
        batch = outcome.batch
        if step.config.is_changing:
            scratch.memo.forget(batch.columns)
    batch, rows, _ = _without(batch, rows, gone)
    return Ran(batch=batch, rows=rows, findings=pa.concat_tables(found).unify_dictionaries().combine_chunks())


def removals(findings: pa.Table, steps: Sequence[StepConfig]) -> Iterator[tuple[str, int]]:
    """Yield (step and rule, rows that it removed). A row counts for the first rule that it broke."""
    gone = findings.filter(pc.equal(findings.column("action"), "removed"))
    first = np.unique(gone.column("row").to_numpy(), return_index=True)[1]
    rules = Counter(
        zip(gone.column(STEP).take(first).to_pylist(), gone.column("rule").take(first).to_pylist(), strict=True)
    )
    for (index, rule), count in sorted(rules.items()):
        yield f"{name_of(steps[index])}.{rule}", count


def _accounted(table: pa.Table, rows: Ints, index: int) -> pa.Table:
    columns = [pa.array(rows), pa.array(np.full(len(rows), index, dtype=np.int16)), *table.columns[1:]]
    return pa.table(columns, schema=ACCOUNTED)


def _without(batch: pa.RecordBatch, rows: Ints, gone: Flags) -> tuple[pa.RecordBatch, Ints, Flags]:
    if not gone.any():
        return batch, rows, gone
    return batch.filter(pa.array(~gone)), rows[~gone], np.zeros(int((~gone).sum()), dtype=np.bool_)


def _extended(batch: pa.RecordBatch, config: StepConfig) -> pa.RecordBatch:
    """A batch without rows, with the columns that a step would have appended."""
    for name, type_, _ in config.added_columns():
        batch = batch.append_column(name, pa.array([], storage_type(type_, None)))
    return batch
