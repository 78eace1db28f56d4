"""Methods side by side on the same test rows: what each scores, and how far the model leads, with a paired interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

MODEL = "model"
"""The method's name of what the run serves."""

Array = npt.NDArray[np.float64]
Outcome = Literal["ahead", "level", "behind"]


@dataclass(frozen=True, slots=True)
class Lead:
    """How much better one method is than another, in the metric's unit; negative where it is worse."""

    value: float
    low: float
    high: float

    @property
    def outcome(self) -> Outcome:
        """Ahead or behind only where the whole 95% interval says so."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "level"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods on the same test rows. A method's metric is the sum of its points over the sum of the sizes.

    Attributes:
        metric: Its name.
        goal: Whether much or little of it is good.
        row_ids: Of the test rows (N,).
        sizes: What a row counts for (N,): 1, or its characters.
        points: By method, what it got in each row (N,): 1 for a right answer, or the bits that it needed.
        tuned: By method, what was chosen for it on the validation split.
    """

    metric: str
    goal: Literal["high", "low"]
    row_ids: Sequence[str]
    sizes: Array
    points: Mapping[str, Array]
    tuned: Mapping[str, str] = field(default_factory=dict)

    @property
    def baselines(self) -> list[str]:
        return [method for method in self.points if method != MODEL]

    def value(self, method: str) -> float:
        """The method's metric on all rows."""
        return float(self.points[method].sum() / self.sizes.sum())

    def lead(self, over: str, *, of: str = MODEL, resamples: int = 2000) -> Lead:
        """How much better a method is than another, with the percentile interval of a paired bootstrap.

        Rows of one id are drawn together: runs with several seeds test some rows more than once.
        """
        sign = 1 if self.goal == "high" else -1
        _, codes = np.unique(np.asarray(self.row_ids), return_inverse=True)
        gains = np.bincount(codes, weights=sign * (self.points[of] - self.points[over]))
        sizes = np.bincount(codes, weights=self.sizes)
        drawn = np.random.default_rng(0).integers(0, len(gains), size=(resamples, len(gains)))
        low, high = np.quantile(gains[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
        return Lead(value=float(gains.sum() / sizes.sum()), low=float(low), high=float(high))


def pooled(comparisons: Sequence[Comparison]) -> Comparison:
    """The same methods over several runs as one comparison."""
    first = comparisons[0]
    return Comparison(
        metric=first.metric,
        goal=first.goal,
        row_ids=[row_id for one in comparisons for row_id in one.row_ids],
        sizes=np.concatenate([one.sizes for one in comparisons]),
        points={method: np.concatenate([one.points[method] for one in comparisons]) for method in first.points},
    )


def compare_answers(
    test: pa.Table, target: str, answers: Mapping[str, Sequence[str]], *, tuned: Mapping[str, str] | None = None
) -> Comparison:
    """Compare classifiers by accuracy.

    Args:
        test: The test split.
        target: Its column of right answers.
        answers: Each method's, in the order of `test`.
        tuned: As in Comparison.
    """
    truth = np.array(test[target].to_pylist(), dtype=np.str_)
    return Comparison(
        metric="accuracy",
        goal="high",
        row_ids=test["row_id"].to_pylist(),
        sizes=np.ones(len(truth)),
        points={method: (np.asarray(given) == truth).astype(np.float64) for method, given in answers.items()},
        tuned=tuned or {},
    )


def answers_of(predictions: Path, test: pa.Table) -> list[str]:
    """What a model answered, from a report's `predictions.parquet`, in the order of the test split."""
    table = pq.read_table(predictions, columns=["row_id", "label"])
    by_id = dict(zip(table["row_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return [by_id[row_id] for row_id in test["row_id"].to_pylist()]


def read_split(dataset: Path, name: str) -> pa.Table:
    """All rows of one split of a data set artifact."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(dataset.glob(f"data/{name}-*.parquet"))])
