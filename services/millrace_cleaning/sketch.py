"""Quantiles of a column's numbers in bounded memory, and the same whatever order and parts the numbers came in.

A number is counted in a bin: its leading bits, taken so that bins are in the numbers' order. All bits are kept while there are
few distinct numbers. When there are more than MAX_BINS, the last bit of every bin's name goes, and pairs of bins become one.
How many bits are left depends on the set of distinct numbers alone, so merging is exact, commutative and associative, which
t-digest and KLL are not. With b bits left of a float's 52 the relative error of a quantile is at most 2^-b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_BINS = 1024
_LOW_BITS = np.int64(2**63 - 1)


def _no_ints() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass(slots=True, eq=False)
class NumberSketch:
    """Counts of finite numbers by bin.

    Attributes:
        shift: How many low bits of each number are left out.
        bins: Names of the bins, ascending.
        counts: Numbers in each.
    """

    shift: int = 0
    bins: Ints = field(default_factory=_no_ints)
    counts: Ints = field(default_factory=_no_ints)

    def add(self, numbers: Floats) -> None:
        """Count finite numbers."""
        names, counts = np.unique(_in_order(numbers) >> self.shift, return_counts=True)
        self._add_bins(names, counts.astype(np.int64))

    def merge(self, other: NumberSketch) -> None:
        """Count another sketch's numbers too."""
        while self.shift < other.shift:
            self._coarsen()
        self._add_bins(other.bins >> (self.shift - other.shift), other.counts)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the number below which a share of all lies, between neighbours in proportion; NaN of none."""
        return _quantile(self._numbers(), self.counts, share)

    def median_deviation(self) -> float:
        """Return the median distance from the median."""
        numbers = self._numbers()
        with np.errstate(over="ignore", invalid="ignore"):
            distances = np.abs(numbers - _quantile(numbers, self.counts, 0.5))
        order = np.argsort(distances, kind="stable")
        return _quantile(distances[order], self.counts[order], 0.5)

    def mean(self) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.average(self._numbers(), weights=self.counts)) if len(self.bins) else math.nan

    def standard_deviation(self) -> float:
        if not len(self.bins):
            return math.nan
        with np.errstate(over="ignore", invalid="ignore"):
            return math.sqrt(np.average(np.square(self._numbers() - self.mean()), weights=self.counts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumberSketch) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def to_json(self) -> dict[str, Any]:
        return {"shift": self.shift, "bins": self.bins.tolist(), "counts": self.counts.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NumberSketch:
        bins, counts = (np.array(value[name], dtype=np.int64) for name in ("bins", "counts"))
        return cls(shift=value["shift"], bins=bins, counts=counts)

    def _add_bins(self, names: Ints, counts: Ints) -> None:
        self.bins, self.counts = _summed(np.concatenate([self.bins, names]), np.concatenate([self.counts, counts]))
        while len(self.bins) > MAX_BINS:
            self._coarsen()

    def _coarsen(self) -> None:
        self.shift += 1
        self.bins, self.counts = _summed(self.bins >> 1, self.counts)

    def _numbers(self) -> Floats:
        """The number in the middle of each bin; of a bin with one number, that one."""
        middles = (self.bins << self.shift) + ((1 << self.shift) >> 1)
        bits = np.where(middles < 0, middles ^ _LOW_BITS, middles)
        limit = np.finfo(np.float64).max
        return np.clip(np.nan_to_num(bits.view(np.float64), nan=limit), -limit, limit)


def _in_order(numbers: Floats) -> Ints:
    """The bits of floats as integers in the floats' order; minus zero is zero."""
    bits = (np.ascontiguousarray(numbers, dtype=np.float64) + 0.0).view(np.int64)
    return np.where(bits < 0, bits ^ _LOW_BITS, bits)


def _summed(names: Ints, counts: Ints) -> tuple[Ints, Ints]:
    distinct, places = np.unique(names, return_inverse=True)
    sums = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sums, places, counts)
    return distinct, sums


def _quantile(numbers: Floats, counts: Ints, share: float) -> float:
    """Of ascending numbers with counts."""
    if not len(numbers):
        return math.nan
    ends = np.cumsum(counts)
    rank = share * (int(ends[-1]) - 1)
    low, high = (
        float(numbers[np.searchsorted(ends, place, side="right")]) for place in (math.floor(rank), math.ceil(rank))
    )
    return low + (high - low) * (rank - math.floor(rank))
