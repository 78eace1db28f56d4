"""Dividing rows into splits so that nothing learned from one is met again in another.

Rows are divided by *units* that stay whole: a row's key (so equal rows stay together), a group, a moment. A random split
orders the units by a seeded hash of their content and cuts that order at the fractions, in each class. So a row falls the
same way wherever it stands in the source, and adding rows moves only those near a cut, while the counts of each class are
exact to one row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from millrace import errors
from millrace.contracts.schema import SplitName
from millrace.datasets.keys import UInt64s, seeded_order
from millrace_cleaning.dedup import first_of_each

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Codes = npt.NDArray[np.int8]
"""A split's position in SPLITS, for each row."""

Ints = npt.NDArray[np.int64]


def split_randomly(
    low: UInt64s, high: UInt64s, *, classes: Ints | None, seed: int, fractions: Mapping[SplitName, float]
) -> Codes:
    """Divide rows by their keys, in each class (codes from 0; None: not stratified).

    Raises:
        InvalidData: Too few rows to fill every split.
    """
    first, unit_of_row = first_of_each(low, high)
    strata = np.zeros(int(first.sum()), dtype=np.int64) if classes is None else classes[first]
    order = np.lexsort((high[first], seeded_order(low[first], seed=seed), strata))
    size_of_unit = np.bincount(unit_of_row, minlength=len(order))
    sizes = size_of_unit[order]
    codes = np.full(len(order), SPLITS.index("test"), dtype=np.int8)
    begin = rows_before = 0
    for end in np.cumsum(np.unique(strata, return_counts=True)[1]).tolist():
        middles = np.cumsum(sizes[begin:end]) - sizes[begin:end] / 2
        num_rows = int(sizes[begin:end].sum())
        end_train, end_validation = _cuts(rows_before, rows_before + num_rows, fractions)
        members = order[begin:end]
        codes[members[middles < end_validation]] = SPLITS.index("validation")
        codes[members[middles < end_train]] = SPLITS.index("train")
        codes[members[0]] = SPLITS.index("train")  # a class that training never sees cannot be learned
        begin, rows_before = end, rows_before + num_rows
    _fill_empty(codes, size_of_unit, fractions)
    result: Codes = codes[unit_of_row]
    _check_filled(result, fractions, units="distinct rows", num_units=len(order))
    return result


def split_by_group(groups: UInt64s, *, seed: int, fractions: Mapping[SplitName, float]) -> Codes:
    """Divide whole groups (hashes of their values), near the fractions of rows.

    Raises:
        InvalidData: There are fewer groups than splits to fill.
    """
    units, unit_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(seeded_order(units, seed=seed), kind="stable")
    codes = np.empty(len(units), dtype=np.int8)
    codes[order] = _by_midpoint(sizes[order], fractions)
    _fill_empty(codes, sizes, fractions)
    result: Codes = codes[unit_of_row]
    _check_filled(result, fractions, units="groups", num_units=len(units))
    return result


def split_in_order(positions: Ints, *, fractions: Mapping[SplitName, float], units: str) -> Codes:
    """Divide by a position, such as a time: the lowest train, the highest test; equal positions stay together.

    Raises:
        InvalidData: There are too few distinct positions.
    """
    values, unit_of_row, sizes = np.unique(positions, return_inverse=True, return_counts=True)
    result: Codes = _by_midpoint(sizes, fractions)[unit_of_row]
    _check_filled(result, fractions, units=units, num_units=len(values))
    return result


def cut_documents(sizes: Ints, *, fractions: Mapping[SplitName, float]) -> list[list[tuple[int, int, int]]]:
    """Divide documents, in order, at character positions; a document in which a cut falls is cut there.

    Args:
        sizes: Characters of each document.

    Returns:
        For each document its pieces (start, end, split code); most have one.

    Raises:
        InvalidData: There are fewer characters than splits to fill.
    """
    total = int(sizes.sum())
    ends = (*_cuts(0, total, fractions), total)
    pieces: list[list[tuple[int, int, int]]] = []
    begin = 0
    for size in sizes.tolist():
        bounds = (0, *(min(max(end - begin, 0), size) for end in ends))
        pieces.append([(bounds[i], bounds[i + 1], i) for i in range(len(SPLITS)) if bounds[i] < bounds[i + 1]])
        begin += size
    codes = np.array([code for row in pieces for *_, code in row], dtype=np.int8)
    _check_filled(codes, fractions, units="characters", num_units=total)
    return pieces


def _cuts(begin: int, end: int, fractions: Mapping[SplitName, float]) -> tuple[int, int]:
    """Where train and validation end within units begin..end of all: rounding over all keeps the totals exact too."""
    bounds = (fractions["train"], fractions["train"] + fractions["validation"])
    train, validation = (_round(bound * end) - _round(bound * begin) for bound in bounds)
    return train, max(train, validation)


def _round(value: float) -> int:
    return int(np.floor(value + 0.5 + 1e-9))


def _by_midpoint(sizes: Ints, fractions: Mapping[SplitName, float]) -> Codes:
    """Give each unit the split in which its middle row falls. So a giant one goes to the largest split, train."""
    middles = (np.cumsum(sizes) - sizes / 2) / max(int(sizes.sum()), 1)
    bounds = np.array([fractions["train"], fractions["train"] + fractions["validation"]])
    return np.searchsorted(bounds - 1e-9, middles, side="right").astype(np.int8)


def _fill_empty(codes: Codes, sizes: Ints, fractions: Mapping[SplitName, float]) -> None:
    """Give a split that got no unit the smallest one of the split with the most units."""
    for code, name in enumerate(SPLITS):
        if fractions[name] and not (codes == code).any():
            counts = np.bincount(codes, minlength=len(SPLITS))
            if counts.max() < 2:
                return
            donors = np.flatnonzero(codes == counts.argmax())
            codes[donors[np.argmin(sizes[donors])]] = code


def _check_filled(codes: Codes, fractions: Mapping[SplitName, float], *, units: str, num_units: int) -> None:
    for code, name in enumerate(SPLITS):
        if fractions[name] and not (codes == code).any():
            raise errors.InvalidData(
                f"{num_units} {units} are too few: the {name} split ({fractions[name]:g} of them) is empty.",
                remedy=f"Give more data, or set `split.{name}: 0` and raise another fraction.",
                field="with.split",
            )
