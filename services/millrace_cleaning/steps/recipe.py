"""Running a recipe: steps in a row over one batch, every row that they touch accounted for."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace_cleaning.convert import storage_type
from millrace_cleaning.sizes import row_bytes
from millrace_cleaning.steps.findings import FINDINGS, Outcome, Scratch
from millrace_cleaning.steps.kinds import KINDS
from millrace_cleaning.steps.settings import StepConfig

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Columns = Mapping[str, tuple[ColumnType, Role]]


@dataclass(frozen=True, slots=True)
class Flow:
    """How much went into a step and came out of it, and how many rows it changed and flagged."""

    rows_in: int = 0
    bytes_in: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    changed: int = 0
    flagged: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    def values(self) -> tuple[int, ...]:
        return astuple(self)

    def __add__(self, other: Flow) -> Flow:
        return Flow(*(mine + theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))


class Apply(Protocol):
    def __call__(self, batch: pa.RecordBatch, config: StepConfig, scratch: Scratch, /) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A step whose code is at hand, and the name that tells it from the recipe's others."""

    label: str
    config: StepConfig
    apply: Apply


@dataclass(frozen=True, slots=True)
class Ran:
    """What is left of a batch.

    Attributes:
        batch: The rows that stay.
        rows: Their positions in the batch that was given.
        findings: Of each step that found something, by its label; rows are positions in the batch that was given.
        flow: How much went through each step, by its label.
    """

    batch: pa.RecordBatch
    rows: Ints
    findings: Sequence[tuple[str, pa.Table]]
    flow: Mapping[str, Flow]


def name_of(step: StepConfig) -> str:
    """What `step:` says."""
    return next(name for name, kind in KINDS.items() if type(step) is kind)


def labels(steps: Sequence[StepConfig]) -> list[str]:
    """A name for each step: what `step:` says, and a number from the second of a kind on."""
    seen: Counter[str] = Counter()
    found = []
    for name in map(name_of, steps):
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


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
    for index, (label, step) in enumerate(zip(labels(steps), steps, strict=True)):
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
        loaded.append(Step(label=label, config=step, apply=module.apply))
    return loaded


def run(batch: pa.RecordBatch, steps: Sequence[Step], *, keep: Flags, scratch: Scratch) -> Ran:
    """Apply steps to the rows of a batch that are kept so far.

    A row that a step removes is seen by the judging steps that follow, so that they all see one array and share what they
    compute of it; what they say of it is not heard. Before a step that writes into columns such rows are taken out.

    Raises:
        InvalidData: A step refuses a row; its `row` is the position in the batch that was given.
    """
    rows = np.arange(batch.num_rows, dtype=np.int64)
    gone = ~keep
    found: list[tuple[str, pa.Table]] = []
    flow: dict[str, Flow] = {}
    sizes = row_bytes(batch) if steps else rows
    for index, step in enumerate(steps):
        if gone.all() or (step.config.is_changing and gone.any()):
            rows, sizes = rows[~gone], sizes[~gone]
            batch, gone = batch.filter(pa.array(~gone)), np.zeros(len(rows), dtype=np.bool_)
            scratch.memo.forget(batch.columns)
        before = int((~gone).sum()), int(sizes[~gone].sum())
        touched = {"changed": 0, "flagged": 0}
        if batch.num_rows:
            outcome = _applied(batch, step, scratch, rows=rows, field=f"with.steps.{index}")
            assert outcome.batch.num_rows == batch.num_rows, f"{step.config.runs_in} lost rows"
            table = _heard(outcome.findings.table(), rows, gone)
            found += [(step.label, table)] if table.num_rows else []
            touched = {action: _num_rows(table, action) for action in touched}
            gone = gone | outcome.findings.removed(batch.num_rows)
            batch = outcome.batch
            if step.config.is_changing:
                scratch.memo.forget(batch.columns)
            if step.config.is_changing or step.config.added_columns():
                sizes = row_bytes(batch)
        else:
            batch = _extended(batch, step.config)
        flow[step.label] = Flow(*before, int((~gone).sum()), int(sizes[~gone].sum()), **touched)
    if gone.any():
        batch, rows = batch.filter(pa.array(~gone)), rows[~gone]
    return Ran(batch=batch, rows=rows, findings=found, flow=flow)


def _applied(batch: pa.RecordBatch, step: Step, scratch: Scratch, *, rows: Ints, field: str) -> Outcome:
    try:
        return step.apply(batch, step.config, scratch)
    except errors.InvalidData as error:
        within = error.field.removeprefix("with.steps").lstrip(".")
        error.field = f"{field}.{within}" if within else field
        if "row" in error.context:
            error.context["row"] = int(rows[error.context["row"]])
        raise


def _heard(findings: pa.Table, rows: Ints, gone: Flags) -> pa.Table:
    """Findings of rows that are still there, with the rows' positions in the batch that was given."""
    at = findings.column("row").to_numpy()
    if gone.any():
        findings, at = findings.filter(pa.array(~gone[at])), at[~gone[at]]
    return findings.set_column(0, FINDINGS.field("row"), pa.array(rows[at], pa.int32()))


def _num_rows(findings: pa.Table, action: str) -> int:
    """How many rows findings of one kind are of."""
    of_action = findings.filter(pc.equal(findings.column("action"), action))
    return int(pc.count_distinct(of_action.column("row")).as_py())


def _extended(batch: pa.RecordBatch, config: StepConfig) -> pa.RecordBatch:
    """A batch without rows, with the columns that a step would have appended."""
    for name, type_, _ in config.added_columns():
        batch = batch.append_column(name, pa.array([], storage_type(type_, None)))
    return batch
