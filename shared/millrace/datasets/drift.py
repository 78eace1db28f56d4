"""How far a column moved between two samples of it: one number per kind of column, with what it is made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.schema import Column

NUM_BINS = 10
NOTABLE_PSI = 0.1
NOTABLE_DISTANCE = 0.1
_MOST_LABELS = 8

Numbers = npt.NDArray[np.float64]


class ColumnDrift(Contract):
    """What changed of one column from an older data set to a newer one."""

    column: str
    type: str
    measure: str = Field(description="psi: of numbers, or of lengths; distance: total variation, of labels.")
    value: float = Field(ge=0)
    is_notable: bool
    nulls_old: float = Field(ge=0, le=1, description="Share of rows.")
    nulls_new: float = Field(ge=0, le=1)
    mean_old: float | None = None
    mean_new: float | None = None
    appeared: tuple[str, ...] = Field(default=(), description="Labels that only the newer one has; at most 8.")
    vanished: tuple[str, ...] = ()


def drift(column: Column, old: pa.ChunkedArray, new: pa.ChunkedArray) -> ColumnDrift:
    """Compare two samples of one column.

    Numbers, and the lengths of texts, lists and files, by the population stability index over the older sample's deciles;
    labels by total variation distance. Above 0.1 either counts as notable.
    """
    facts: dict[str, Any] = {
        "column": column.name, "type": column.type,
        "nulls_old": old.null_count / max(1, len(old)), "nulls_new": new.null_count / max(1, len(new)),
    }  # fmt: skip
    if column.type in ("category", "boolean"):
        counts = [Counter(pc.cast(array.drop_null(), pa.string()).to_pylist()) for array in (old, new)]
        value = _total_variation(*counts)
        appeared, vanished = sorted(counts[1].keys() - counts[0].keys()), sorted(counts[0].keys() - counts[1].keys())
        return ColumnDrift(
            **facts, measure="distance", value=value, is_notable=value > NOTABLE_DISTANCE,
            appeared=tuple(appeared[:_MOST_LABELS]), vanished=tuple(vanished[:_MOST_LABELS]),
        )  # fmt: skip
    was, is_ = measured(column, old), measured(column, new)
    value = stability_index(was, is_)
    means = {"mean_old": float(was.mean()) if was.size else None, "mean_new": float(is_.mean()) if is_.size else None}
    return ColumnDrift(**facts, **means, measure="psi", value=value, is_notable=value > NOTABLE_PSI)


def measured(column: Column, array: pa.ChunkedArray) -> Numbers:
    """The numbers that describe a column: its values, or the lengths of its texts, token lists and files."""
    array = array.drop_null()
    if column.shape is not None:
        array = pc.list_flatten(array)
    elif column.type in ("text", "json"):
        array = pc.utf8_length(array)
    elif column.type == "tokens":
        array = pc.list_value_length(array)
    elif column.type in ("image", "audio"):
        array = pc.binary_length(pc.struct_field(array, "bytes"))
    elif column.type == "timestamp":
        array = pc.divide(array.cast(pa.int64()).cast(pa.float64()), 1e6)  # seconds since 1970
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def stability_index(old: Numbers, new: Numbers) -> float:
    """Population stability index over the older sample's deciles; 0 where either is empty.

    A share of nothing is taken as half a row, so that the index stays finite.
    """
    if not old.size or not new.size:
        return 0.0
    edges = np.unique(np.quantile(old, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    shares = [np.maximum(_histogram(a, edges), 0.5) / a.size for a in (old, new)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _histogram(values: Numbers, edges: Numbers) -> Numbers:
    """Counts in (-inf, edge 0], (edge 0, edge 1], ..., (last edge, inf)."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.float64)


def _total_variation(old: Counter[str], new: Counter[str]) -> float:
    num_old, num_new = old.total(), new.total()
    if not num_old or not num_new:
        return 0.0
    return sum(abs(old[label] / num_old - new[label] / num_new) for label in old.keys() | new.keys()) / 2
