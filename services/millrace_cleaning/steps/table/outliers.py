"""Numbers outside of their column's fences, which are known before the first row is judged."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_cleaning.steps.findings import Action, Findings, Outcome, Scratch
from millrace_cleaning.steps.table.settings import Fence, Outliers

_ACTIONS: dict[str, Action] = {"flag": "flagged", "remove": "removed", "clip": "changed", "nullify": "changed"}


def apply(batch: pa.RecordBatch, config: Outliers, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Flag, remove, clip or nullify numbers outside of the fences; nulls are inside."""
    findings = Findings()
    for name, fence in config.fences.items():
        index = batch.schema.get_field_index(name)
        array = batch.column(index)
        numbers = array.cast(pa.float64(), safe=False)
        values = numbers.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            sides = (("low", fence.low, values < fence.low), ("high", fence.high, values > fence.high))
        for rule, limit, is_out in sides:
            rows = np.flatnonzero(is_out)
            findings.add(rows, action=_ACTIONS[config.action], rule=rule, column=name, values=values[rows], limit=limit)
        if config.action in ("clip", "nullify") and any(is_out.any() for *_, is_out in sides):
            field = batch.schema.field(index)
            new = _clipped(array, fence) if config.action == "clip" else _nullified(array, sides[0][2] | sides[1][2])
            batch = batch.set_column(index, field, new)
    return Outcome(batch, findings)


def _clipped(array: pa.Array, fence: Fence) -> pa.Array:
    """Integers stay integers, within the fences."""
    low, high = pa.scalar(fence.low), pa.scalar(fence.high)
    if pa.types.is_integer(array.type):
        low, high = _whole(fence.low, "up"), _whole(fence.high, "down")
    clipped = pc.min_element_wise(pc.max_element_wise(array, low, skip_nulls=False), high, skip_nulls=False)
    return clipped.cast(array.type)


def _whole(bound: float, to: Literal["up", "down"]) -> pa.Scalar:
    rounded = np.ceil(bound) if to == "up" else np.floor(bound)
    return pa.scalar(int(np.clip(rounded, -(2.0**62), 2.0**62)), pa.int64())


def _nullified(array: pa.Array, is_out: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pa.Array:
    return pc.if_else(pa.array(is_out), pa.scalar(None, array.type), array)
