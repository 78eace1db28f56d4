"""Numbers behind the page's plots, from a sample of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.contracts.schema import ROW_ID, Column, DatasetSchema
from millrace.datasets.drift import Numbers, measured
from millrace.datasets.reading import SPLITS
from millrace_cleaning.report.sampling import SIZE, SPLIT

NUM_BINS = 24
MAX_LABELS = 16
MAX_CORRELATED = 24
MAX_EXAMPLES = 8
MAX_CELL_CHARS = 200
MAX_NUMBERS_SHOWN = 6
_CLIP = (0.005, 0.995)
"""Quantiles between which a histogram is drawn: one far value would leave all others in one bar."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a distribution.

    Attributes:
        label: The label, or the lower edge.
        shares: Share of each split's rows, by split.
    """

    label: str
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How one column is distributed.

    Attributes:
        of: What is drawn: `values`, `characters`, `bytes`, `tokens`, `times` or `labels`.
        bars: In order of the axis, or the commonest labels first.
        others: Labels that have no bar.
        ends: What stands at the ends of the axis; the bar there holds what lies beyond it, too, if that is said.
    """

    column: Column
    of: str
    bars: tuple[Bar, ...]
    others: int = 0
    ends: tuple[str, str] = ("", "")

    @property
    def highest(self) -> float:
        """The largest share of any bar; greater than 0."""
        return max(share for bar in self.bars for share in bar.shares.values())


@dataclass(frozen=True, slots=True)
class Correlations:
    """Pearson's r of each pair of numeric columns, over rows that have both; NaN where one is constant."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


def distributions(schema: DatasetSchema, sample: pa.Table) -> list[Distribution]:
    """One for each column that has something to draw, of a sample as `sampling.read_samples` gives it."""
    found = []
    for column in schema.columns:
        parts = {str(s): sample.filter(pc.equal(sample.column(SPLIT), s)) for s in SPLITS}
        parts = {split: rows for split, rows in parts.items() if rows.num_rows}
        draw = _labels if column.type in ("category", "boolean") else _histogram
        found.append(draw(column, parts))
    return [d for d in found if d.bars]


def correlations(schema: DatasetSchema, sample: pa.Table) -> Correlations | None:
    """Of the first columns of numbers; None for fewer than two."""
    columns = [c for c in schema.columns if c.type in ("number", "integer", "boolean") and c.shape is None]
    columns = columns[:MAX_CORRELATED]
    if len(columns) < 2 or sample.num_rows < 3:
        return None
    numbers = np.stack([_with_nan(sample.column(c.name)) for c in columns])
    values = [[1.0 if i == j else _pearson(a, b) for j, b in enumerate(numbers)] for i, a in enumerate(numbers)]
    return Correlations(tuple(c.name for c in columns), tuple(map(tuple, values)))


def examples(schema: DatasetSchema, sample: pa.Table) -> list[dict[str, str]]:
    """A few rows in words, cut to what fits a cell."""
    rows = sample.slice(0, MAX_EXAMPLES).to_pylist()
    return [
        {ROW_ID: row[ROW_ID], SPLIT: row[SPLIT], **{c.name: _shown(row[c.name]) for c in schema.columns}}
        for row in rows
    ]


def _labels(column: Column, parts: Mapping[str, pa.Table]) -> Distribution:
    values = {s: rows.column(column.name).drop_null() for s, rows in parts.items()}
    counts = {s: Counter(pc.cast(array, pa.string()).to_pylist()) for s, array in values.items()}
    totals: Counter[str] = sum(counts.values(), Counter())
    ordered = sorted(totals, key=lambda label: (-totals[label], label))
    bars = [Bar(label, {s: c[label] / max(1, c.total()) for s, c in counts.items()}) for label in ordered[:MAX_LABELS]]
    return Distribution(column, "labels", tuple(bars), others=len(ordered) - len(bars))


def _histogram(column: Column, parts: Mapping[str, pa.Table]) -> Distribution:
    numbers = {split: _numbers(column, rows) for split, rows in parts.items()}
    everything = np.concatenate([np.empty(0), *numbers.values()])
    of = _MEASURED.get(column.type, "values")
    if not everything.size:
        return Distribution(column, of, ())
    low, high = np.quantile(everything, _CLIP)
    if low == high:
        low, high = everything.min(), everything.max()
    edges = _edges(float(low), float(high), is_whole=bool((everything == np.floor(everything)).all()))
    inside = {split: np.clip(values, edges[0], edges[-1]) for split, values in numbers.items()}
    counts = {split: np.histogram(values, bins=edges)[0] for split, values in inside.items()}
    labels = [_edge(edge, column) for edge in edges]
    return Distribution(
        column, of, tuple(
            Bar(labels[i], {s: float(c[i]) / max(1, int(c.sum())) for s, c in counts.items()})
            for i in range(len(edges) - 1)
        ),
        ends=_ends(everything, edges, column),
    )  # fmt: skip


_MEASURED = {
    "text": "characters", "json": "characters", "tokens": "tokens", "image": "bytes", "audio": "bytes",
    "timestamp": "times",
}  # fmt: skip


def _edge(edge: float, column: Column) -> str:
    if column.type == "timestamp":
        return f"{_EPOCH + timedelta(seconds=float(edge)):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    return f"{edge:.4g}"


def _ends(values: Numbers, edges: Numbers, column: Column) -> tuple[str, str]:
    low, high = edges[0], min(edges[-1], values.max())  # a bin of one whole number ends before the next
    below, above = "≤ " * bool(values.min() < low), "≥ " * bool(values.max() > high)
    return below + _edge(low, column), above + _edge(high, column)


def _numbers(column: Column, rows: pa.Table) -> Numbers:
    """A column's values, or their sizes where they were cut."""
    if column.name + SIZE in rows.column_names:
        return np.asarray(rows.column(column.name + SIZE).drop_null().to_numpy(), dtype=np.float64)
    return measured(column, rows.column(column.name))


def _edges(low: float, high: float, *, is_whole: bool) -> Numbers:
    """Bin edges; for few whole numbers one bin each."""
    if low == high:
        return np.array([low, low + 1])
    if is_whole and high - low < NUM_BINS:
        return np.arange(low, high + 2)
    return np.linspace(low, high, NUM_BINS + 1)


def _with_nan(array: pa.ChunkedArray) -> Numbers:
    numbers = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
    return np.asarray(numbers.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _pearson(a: Numbers, b: Numbers) -> float:
    both: npt.NDArray[np.bool_] = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value[:MAX_NUMBERS_SHOWN])) + (" …" if len(value) > MAX_NUMBERS_SHOWN else "")
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MAX_CELL_CHARS else text[:MAX_CELL_CHARS] + "…"
