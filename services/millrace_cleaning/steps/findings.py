"""What steps say of rows: which row, which rule, which value. The account of a recipe is made of these."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import SecretStr

Action = Literal["removed", "changed", "flagged"]
ACTIONS: tuple[Action, ...] = ("removed", "changed", "flagged")
Rows = npt.NDArray[np.integer[Any]]

FINDINGS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("action", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("rule", pa.dictionary(pa.int16(), pa.string()), nullable=False),
        pa.field("column", pa.dictionary(pa.int16(), pa.string()), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("limit", pa.float64()),
        pa.field("detail", pa.string()),
    ]
)
"""One finding a row: a position in the batch, what became of the row, by which rule, and the measured value beside its
limit. `detail` says in words what numbers cannot; never what a row holds, as it may be private."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(slots=True)
class Findings:
    """Gathers findings of one step over one batch."""

    tables: list[pa.Table] = field(default_factory=list)

    def add(
        self,
        rows: Rows,
        *,
        action: Action,
        rule: str,
        column: str = "",
        values: npt.NDArray[Any] | Sequence[float] | None = None,
        limit: float | None = None,
        details: Sequence[str] | None = None,
    ) -> None:
        """Say one thing of several rows of the batch.

        Args:
            rows: Positions in the batch, ascending.
            values: What was measured, one for each of rows; NaN where nothing was.
            limit: What the values were held against.
            details: One for each of rows.
        """
        num = len(rows)
        if not num:
            return
        self.tables.append(
            pa.table(
                [
                    pa.array(rows, pa.int32()), *(_constant(v, num, FINDINGS.field(n).type) for n, v in (
                        ("action", action), ("rule", rule), ("column", column))),
                    pa.nulls(num, pa.float64()) if values is None
                    else pa.array(np.asarray(values, dtype=np.float64), from_pandas=True),
                    pa.array(np.full(num, np.nan if limit is None else limit), pa.float64(), from_pandas=True),
                    pa.nulls(num, pa.string()) if details is None else pa.array(details, pa.string()),
                ],
                schema=FINDINGS,
            )
        )  # fmt: skip

    def table(self) -> pa.Table:
        """All findings, in the order in which they were added."""
        return pa.concat_tables(self.tables).unify_dictionaries() if self.tables else FINDINGS.empty_table()

    def removed(self, num_rows: int) -> npt.NDArray[np.bool_]:
        """Which of a batch's rows go."""
        gone = np.zeros(num_rows, dtype=np.bool_)
        for table in self.tables:
            if table.column("action")[0].as_py() == "removed":  # a table says one thing
                gone[table.column("row").to_numpy()] = True
        return gone


class Compute(Protocol[T_co]):
    def __call__(self, array: pa.Array, /) -> T_co: ...


class Memo:
    """Keeps what was computed of a column of the batch in hand, so that steps in a row do not split the same text twice."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Hashable], tuple[pa.Array, Any]] = {}

    def get(self, name: str, array: pa.Array, compute: Compute[T]) -> T:
        """Return compute(array), computed once for this very memory."""
        key = (name, _memory_of(array))
        if key not in self._kept:
            self._kept[key] = (array, compute(array))  # with the array, so that its memory is not given to another
        value: T = self._kept[key][1]
        return value

    def forget(self, arrays: Iterable[pa.Array] = ()) -> None:
        """Keep only what was computed of these arrays."""
        alive = {_memory_of(array) for array in arrays}
        self._kept = {key: value for key, value in self._kept.items() if key[1] in alive}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of a batch: as many rows as came, in their order, and what it found."""

    batch: pa.RecordBatch
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class Scratch:
    """What a step may use beside its batch.

    Attributes:
        memo: What was computed of the batch's columns.
        seed: Of the run.
        pii_key: The worker's key for reversible tokens; empty: it has none.
    """

    memo: Memo = field(default_factory=Memo)
    seed: int = 0
    pii_key: SecretStr = field(default_factory=lambda: SecretStr(""))


def _memory_of(array: pa.Array) -> Hashable:
    """What tells an array from others that live: Arrow makes a new Python object each time a column is asked for."""
    buffers = tuple(None if buffer is None else buffer.address for buffer in array.buffers())
    return (array.type, array.offset, len(array), buffers)


def _constant(value: str, num: int, type_: pa.DataType) -> pa.Array:
    indices = pa.array(np.zeros(num, dtype=type_.index_type.to_pandas_dtype()))
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
