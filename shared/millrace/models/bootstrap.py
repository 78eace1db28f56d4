"""Percentile bootstrap intervals, seeded; models on the same rows share their resamples, so that differences are paired.

Source: Efron 1979; the percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from millrace.models.ops.base import Array
from millrace.models.report import Measure
from millrace.models.scores import Scores

_CELLS_AT_ONCE = 2_000_000
"""Replicates x rows that are held at a time: 16 MB a matrix."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How to resample.

    Attributes:
        num_replicates: Resamples.
        confidence: Share of the replicates inside an interval.
        seed: Equal seeds give equal intervals.
        units: Code of each row's unit (N,), where rows of one unit (a group, a user) are drawn together; None: each its own.
    """

    num_replicates: int
    confidence: float
    seed: int
    units: Array | None = None

    def measure(
        self, scores: Mapping[str, Scores]
    ) -> tuple[dict[str, dict[str, Measure]], dict[str, dict[str, Array]]]:
        """Each model's metrics with intervals, and their replicates, for `difference`.

        Args:
            scores: By model; all of the same rows in the same order.
        """
        parts: dict[str, list[dict[str, Array]]] = {name: [] for name in scores}
        for weights_RN in self._weights(len(next(iter(scores.values())))):
            for name, one in scores.items():
                parts[name].append(one.resampled(weights_RN))
        replicates = {
            name: {metric: np.concatenate([p[metric] for p in made]) for metric in made[0]}
            for name, made in parts.items()
        }
        measures = {}
        for name, one in scores.items():
            values = one.values()
            measures[name] = {m: self._interval(values[m], r) for m, r in replicates[name].items()}
        return measures, replicates

    def difference(
        self,
        value: Mapping[str, Measure],
        replicates: Mapping[str, Array],
        other: Mapping[str, Measure],
        other_replicates: Mapping[str, Array],
    ) -> dict[str, Measure]:
        """Paired intervals of each metric minus the other's."""
        return {
            m: self._interval(value[m].value - other[m].value, replicates[m] - other_replicates[m])
            for m in value
            if m in other
        }

    def _interval(self, value: float, replicates: Array) -> Measure:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(replicates, [tail, 1 - tail])
        return Measure(value=value, low=float(low), high=float(high))

    def _weights(self, num_rows: int) -> Iterator[Array]:
        """Row weights (r, N) of some replicates at a time: how often each row was drawn."""
        random = np.random.default_rng(self.seed)
        num_units = num_rows if self.units is None else int(self.units.max(initial=-1)) + 1
        at_once = max(_CELLS_AT_ONCE // max(num_rows, 1), 1)
        for start in range(0, self.num_replicates, at_once):
            num = min(at_once, self.num_replicates - start)
            drawn = random.integers(0, num_units, size=(num, num_units)) + np.arange(num)[:, None] * num_units
            counts = np.bincount(drawn.ravel(), minlength=num * num_units).reshape(num, num_units).astype(np.float64)
            yield counts if self.units is None else counts[:, self.units]
