"""Holding what was measured of rows against a limit, and saying which rows go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_cleaning.steps.findings import Findings

Numbers = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


def ratio(part: Numbers, whole: Numbers) -> Floats:
    """Return part / whole by row; 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(len(part), dtype=np.float64), where=np.asarray(whole) > 0)


class Judge:
    """Gathers the findings of a step about one column; nulls are not judged."""

    def __init__(self, column: str, valid: npt.NDArray[np.bool_]) -> None:
        self.findings = Findings()
        self._column, self._valid = column, valid

    def at_least(
        self, rule: str, values: Numbers, limit: float | None, *, spare: npt.NDArray[np.bool_] | None = None
    ) -> None:
        """Remove rows whose value is below the limit, but those to spare."""
        if limit is not None:
            bad = values < limit
            self._remove(rule, bad if spare is None else bad & ~spare, values, limit)

    def at_most(self, rule: str, values: Numbers, limit: float | None) -> None:
        """Remove rows whose value is above the limit."""
        if limit is not None:
            self._remove(rule, values > limit, values, limit)

    def refuse(self, rule: str, bad: npt.NDArray[np.bool_], details: Sequence[str]) -> None:
        """Remove rows, and say of each why in words."""
        at = np.flatnonzero(bad & self._valid)
        self.findings.add(
            at,
            action="removed",
            rule=rule,
            column=self._column,
            details=[details[row] for row in at.tolist()],
        )

    def changed(self, rule: str, counts: Numbers, rows: npt.NDArray[np.bool_] | None = None) -> None:
        """Say how often a rule changed a row; of these rows, default: wherever it did."""
        at = np.flatnonzero((counts > 0 if rows is None else rows & (counts > 0)) & self._valid)
        self.findings.add(at, action="changed", rule=rule, column=self._column, values=counts[at])

    def _remove(self, rule: str, bad: npt.NDArray[np.bool_], values: Numbers, limit: float) -> None:
        at = np.flatnonzero(bad & self._valid)
        self.findings.add(at, action="removed", rule=rule, column=self._column, values=values[at], limit=limit)
