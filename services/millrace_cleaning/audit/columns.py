"""Columns that teach nothing or too much by themselves: constant, empty, repeated, counting rows, without repetition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import spearmanr

from millrace.contracts.schema import Column
from millrace_cleaning.audit.matrix import NUMBERS, Floats, codes_of, numbers_of
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import Sample

_EMPTY = 0.95
_DISTINCT = 0.5
_MANY = 1000
_UNSEEN = 0.2
_FOLLOWS = 0.99
_NOT_HASHED = ("image", "audio", "vector", "tokens", "json")


def column_findings(sample: Sample, features: Sequence[Column]) -> Iterator[Finding]:
    """Findings about each feature alone, and about features that say the same."""
    for column in features:
        array = sample.column(column.name)
        nulls = array.null_count / max(len(array), 1)
        if nulls > _EMPTY:
            yield _empty(column, nulls)
        elif column.type in _NOT_HASHED:
            continue
        elif (distinct := pc.count_distinct(array, mode="all").as_py()) == 1:
            yield _constant(column)
        elif column.type == "category":
            yield from _cardinality(sample, column, distinct)
        elif column.type in ("number", "integer"):
            yield from _counting(sample, column, distinct)
    yield from _repeated(sample, [c for c in features if c.type not in _NOT_HASHED])


def _empty(column: Column, nulls: float) -> Finding:
    return Finding(
        code="empty_column", severity="warning", column=column.name, message=f"{nulls:.1%} of {column.name!r} is missing.",
        evidence={"null_share": round(nulls, 4)},
        remedy="Ignore the column; or keep it if its being there is what tells, and say so in the pipeline.",
    )  # fmt: skip


def _constant(column: Column) -> Finding:
    return Finding(
        code="constant_column", severity="warning", column=column.name,
        message=f"{column.name!r} has one value in all rows.", evidence={"distinct": 1},
        remedy="Ignore the column: there is nothing to learn from it, and it may vary in service.",
    )  # fmt: skip


def _cardinality(sample: Sample, column: Column, distinct: int) -> Iterator[Finding]:
    """A category of many values: most will be met once, or for the first time in the test split."""
    codes = codes_of(sample.column(column.name))
    known = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
    known[codes[sample.codes == 0]] = True
    later = codes[sample.codes > 0]
    unseen = float(np.mean(~known[later])) if len(later) else 0.0
    share = distinct / len(sample)
    if share > _DISTINCT or (distinct > _MANY and unseen > _UNSEEN):
        yield Finding(
            code="high_cardinality", severity="warning", column=column.name,
            message=f"{column.name!r} has {distinct:,} values in {len(sample):,} rows; "
            f"{unseen:.0%} of the rows outside of train have one that train never had.",
            evidence={"distinct": distinct, "rows": len(sample), "unseen_share": round(unseen, 4)},
            remedy="Give it the role id or ignore if it names a row, group if it names who a row belongs to, or the type "
            "text if words in it count.",
        )  # fmt: skip


def _counting(sample: Sample, column: Column, distinct: int) -> Iterator[Finding]:
    """A column that grows with the source's rows is an id or a date by another name."""
    values = numbers_of(sample.column(column.name))
    present = np.isfinite(values)
    if present.sum() < 20 or distinct < 0.9 * len(sample):
        return
    follows = float(spearmanr(values[present], sample.ordinals[present]).statistic)
    if abs(follows) >= _FOLLOWS:
        yield Finding(
            code="follows_order", severity="warning", column=column.name,
            message=f"{column.name!r} grows or falls with the order of the rows: it looks like an id or a counter.",
            evidence={"spearman": round(follows, 4), "distinct": distinct},
            remedy="Give it the role id, or time if it says when; in service it will be beyond all that was learned.",
        )  # fmt: skip


def _repeated(sample: Sample, columns: Sequence[Column]) -> Iterator[Finding]:
    """Pairs of columns that are equal, or that say the same in other numbers."""
    seen: dict[bytes, str] = {}
    numeric: list[tuple[str, Floats]] = []
    for column in columns:
        array = sample.column(column.name)
        if pc.count_distinct(array, mode="all").as_py() < 2:
            continue
        key = _content(array, column)
        if key in seen:
            yield _repeats(column.name, seen[key], correlation=1.0)
            continue
        seen[key] = column.name
        if column.type in NUMBERS and np.ptp(values := _filled(numbers_of(array))) > 0:
            numeric.append((column.name, values))
    if len(numeric) > 1:
        correlation: Floats = np.asarray(np.corrcoef(np.stack([values for _, values in numeric])))
        for later in range(len(numeric)):
            close = np.flatnonzero(np.abs(correlation[later, :later]) > 1 - 1e-9)
            if len(close):
                yield _repeats(numeric[later][0], numeric[close[0]][0], correlation=float(correlation[later, close[0]]))


def _content(array: pa.Array, column: Column) -> bytes:
    """Equal for columns that divide the rows in the same way by equal numbers, or by labels one to one."""
    if column.type in ("category", "text"):
        raw = array.cast(pa.string()).dictionary_encode(null_encoding="encode").indices  # in the order of appearance
        codes: bytes = raw.to_numpy(zero_copy_only=False).astype("<i4").tobytes()
        return b"labels" + codes
    return b"numbers" + numbers_of(array).tobytes()


def _filled(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nanmean(values))


def _repeats(name: str, other: str, *, correlation: float) -> Finding:
    return Finding(
        code="duplicate_column", severity="warning", column=name, message=f"{name!r} says the same as {other!r}.",
        evidence={"other": other, "correlation": round(correlation, 9)},
        remedy="Ignore one of them: a second copy weighs double in some models and explains nothing.",
    )  # fmt: skip
