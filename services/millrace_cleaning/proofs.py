"""Proofs that a split leaks nothing, for the report: counted again from the rows' final splits, however they were divided.

A *unit* is what has to stay whole: equal rows, a group, a cluster of near-duplicates. It leaks if two splits have rows of it,
for a model would be judged by what it was trained on. A split by time leaks if a row is not later than all of the splits
before its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.split import SPLITS, Codes

Kind = Literal["duplicates", "groups", "near_duplicates", "time"]
UInt64s = npt.NDArray[np.uint64]

CLAIMS: dict[Kind, str] = {
    "duplicates": "No row has an equal one in another split.",
    "groups": "No group has rows in two splits.",
    "near_duplicates": "No cluster of near-duplicates has rows in two splits.",
    "time": "Every row is later than all rows of the splits before its own.",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was counted to prove one claim of a split.

    Attributes:
        units: Distinct rows, groups or clusters; of time, distinct moments.
        leaking_units: Those that two splits share; of time, moments of leaking rows.
        leaking_rows: Rows of validation and test whose unit is in an earlier split too (train is before validation, and
            validation before test); of time, rows that are not later than every row of the splits before.
    """

    kind: Kind
    units: int
    leaking_units: int
    leaking_rows: int

    @property
    def holds(self) -> bool:
        return self.leaking_rows == 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "claim": CLAIMS[self.kind], "holds": self.holds}


def prove(
    codes: Codes,
    *,
    keys: tuple[UInt64s, UInt64s] | None = None,
    groups: npt.NDArray[Any] | None = None,
    clusters: npt.NDArray[Any] | None = None,
    moments: npt.NDArray[Any] | None = None,
) -> list[Proof]:
    """Return a proof, or the count of leaks, for each thing that is given.

    Args:
        codes: Each row's split; -1 for a row that is in none.
        keys: Both halves of the rows' keys, as of `first_of_each`.
        groups: Of each row, anything that is equal within a group alone.
        clusters: Of each row, the cluster of near-duplicates.
        moments: Of each row, its time, as numbers.

    Memory: 40 bytes a row.
    """
    proofs = []
    if keys is not None:
        proofs.append(_whole("duplicates", codes, first_of_each(*keys)[1]))
    if groups is not None:
        proofs.append(_whole("groups", codes, groups))
    if clusters is not None:
        proofs.append(_whole("near_duplicates", codes, clusters))
    if moments is not None:
        proofs.append(_in_order(codes, moments))
    return proofs


def _whole(kind: Kind, codes: Codes, units: npt.NDArray[Any]) -> Proof:
    present = codes >= 0
    numbers, codes = np.unique(units[present], return_inverse=True)[1], codes[present]
    earliest = np.full(int(numbers.max(initial=-1)) + 1, len(SPLITS), dtype=np.int8)
    np.minimum.at(earliest, numbers, codes)
    leaking = codes > earliest[numbers]
    return Proof(kind, len(earliest), len(np.unique(numbers[leaking])), int(leaking.sum()))


def _in_order(codes: Codes, moments: npt.NDArray[Any]) -> Proof:
    leaking = np.zeros(len(codes), dtype=np.bool_)
    for code in range(1, len(SPLITS)):
        before, mine = (codes >= 0) & (codes < code), codes == code
        if before.any():
            leaking |= mine & (moments <= moments[before].max())
    return Proof("time", len(np.unique(moments[codes >= 0])), len(np.unique(moments[leaking])), int(leaking.sum()))
