"""Constraints on rows of a table: which rows break which, by whole columns at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.table.constraints import Constraints, OnBroken
from millrace_cleaning.steps.table.settings import CheckTable, Comparison
from millrace_cleaning.values import TIMESTAMP_TYPE, to_timestamp

Floats = npt.NDArray[np.float64]

# What breaks each rule, seen from the value on the left.
_BREAKS: dict[str, Callable[[pa.Array, pa.Array | pa.Scalar], pa.Array]] = {
    "ge": pc.less, "gt": pc.less_equal, "le": pc.greater, "lt": pc.greater_equal,
}  # fmt: skip
_BREAKS_BETWEEN: dict[str, Callable[[pa.Array, pa.Array], pa.Array]] = {
    "<=": pc.greater, "<": pc.greater_equal, ">=": pc.less, ">": pc.less_equal, "==": pc.not_equal, "!=": pc.equal,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule and the values that break it.

    Attributes:
        is_broken: Of each row of the batch.
        values: Of each row of the batch: what is held against the limit; None where that is no number.
    """

    rule: str
    column: str
    is_broken: npt.NDArray[np.bool_]
    policy: OnBroken
    values: Floats | None = None
    limit: float | None = None


def apply(batch: pa.RecordBatch, config: CheckTable, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Hold all rows against all constraints. Every rule sees the values as they came, whatever another one nullifies.

    Raises:
        InvalidData: A rule whose policy is `fail` is broken, or a regular expression is none of RE2's.
    """
    found = [broken for broken in _all_broken(batch, config) if broken.is_broken.any()]
    findings = Findings()
    for broken in found:
        rows = np.flatnonzero(broken.is_broken)
        if broken.policy == "fail":
            raise _refusal(broken, rows)
        findings.add(
            rows, action={"remove": "removed", "flag": "flagged", "nullify": "changed"}[broken.policy],  # type: ignore[arg-type]  # the values are Actions
            rule=broken.rule, column=broken.column, values=None if broken.values is None else broken.values[rows],
            limit=broken.limit,
        )  # fmt: skip
        if broken.policy == "nullify":
            batch = _nullified(batch, broken)
    return Outcome(batch, findings)


def _all_broken(batch: pa.RecordBatch, config: CheckTable) -> Iterator[Broken]:
    for name, constraints in config.columns.items():
        yield from _of_column(name, batch.column(name), constraints, constraints.on_broken or config.on_broken)
    for comparison in config.comparisons():
        yield _between(batch, comparison, config.on_broken)


def _of_column(name: str, array: pa.Array, constraints: Constraints, policy: OnBroken) -> Iterator[Broken]:
    if constraints.not_null:
        yield Broken("not_null", name, array.is_null().to_numpy(zero_copy_only=False), policy)
    for rule, breaks in _BREAKS.items():
        bound = getattr(constraints, rule)
        if bound is not None:
            limit = _scalar(bound, array.type)
            values, number = _as_numbers(array), _as_numbers(pa.array([limit.as_py()], array.type))
            yield Broken(
                rule, name, _flags(breaks(array, limit)), policy, values, None if number is None else float(number[0])
            )
    if constraints.isin is not None:
        is_in = pc.is_in(array, pa.array(list(constraints.isin), array.type))
        yield Broken("isin", name, _flags(pc.and_(pc.invert(is_in), array.is_valid())), policy)
    if constraints.notin is not None:
        yield Broken("notin", name, _flags(pc.is_in(array, pa.array(list(constraints.notin), array.type))), policy)
    if constraints.regex is not None:
        yield Broken("regex", name, _flags(pc.invert(_matches(name, array, constraints.regex))), policy)
    for rule, limit_chars in (("min_length", constraints.min_length), ("max_length", constraints.max_length)):
        if limit_chars is not None:
            lengths = pc.utf8_length(array)
            is_out = pc.less(lengths, limit_chars) if rule == "min_length" else pc.greater(lengths, limit_chars)
            yield Broken(rule, name, _flags(is_out), policy, _as_numbers(lengths), limit_chars)


def _between(batch: pa.RecordBatch, comparison: Comparison, policy: OnBroken) -> Broken:
    """Compare two columns; what is measured is left minus right, in seconds of timestamps."""
    left, right = batch.column(comparison.left), batch.column(comparison.right)
    is_broken = _flags(_BREAKS_BETWEEN[comparison.operator](left, right))
    lefts, rights = _as_numbers(left), _as_numbers(right)
    if lefts is None or rights is None:
        return Broken(str(comparison), comparison.left, is_broken, policy)
    return Broken(str(comparison), comparison.left, is_broken, policy, lefts - rights, 0.0)


def _scalar(bound: float | str, type_: pa.DataType) -> pa.Scalar:
    if pa.types.is_timestamp(type_):
        return to_timestamp(pa.array([str(bound)]))[0]
    return pa.scalar(bound, pa.float64() if isinstance(bound, float) and pa.types.is_integer(type_) else type_)


def _as_numbers(array: pa.Array) -> Floats | None:
    """Numbers as they are, timestamps as seconds since 1970, anything else as None."""
    if array.type == TIMESTAMP_TYPE:
        array = pc.divide(array.cast(pa.int64()).cast(pa.float64()), 1e6)
    elif not pa.types.is_integer(array.type) and not pa.types.is_floating(array.type):
        return None
    numbers: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _matches(name: str, array: pa.Array, regex: str) -> pa.Array:
    try:
        return pc.match_substring_regex(array, rf"\A(?:{regex})\z")
    except pa.ArrowInvalid as error:
        raise errors.InvalidData(
            f"{regex[:80]!r} is no regular expression of RE2: {str(error)[:120]}",
            remedy="RE2 knows no look-around and no back-references.",
            field=f"columns.{name}.regex",
        ) from error


def _flags(is_broken: pa.Array) -> npt.NDArray[np.bool_]:
    """A null breaks nothing."""
    flags: npt.NDArray[np.bool_] = is_broken.fill_null(False).to_numpy(zero_copy_only=False)
    return flags


def _nullified(batch: pa.RecordBatch, broken: Broken) -> pa.RecordBatch:
    index = batch.schema.get_field_index(broken.column)
    array = batch.column(index)
    kept = pc.if_else(pa.array(~broken.is_broken), array, pa.scalar(None, array.type))
    return batch.set_column(index, batch.schema.field(index).with_nullable(True), kept)


def _refusal(broken: Broken, rows: npt.NDArray[np.int64]) -> errors.InvalidData:
    """About the first row; how many more there are is counted within the batch. What a row holds is not said."""
    limit = "" if broken.limit is None or " " in broken.rule else f" {broken.limit:g}"
    others = f", as do {len(rows) - 1:,} of the rows read with it" if len(rows) > 1 else ""
    return errors.InvalidData(
        f"column {broken.column!r} breaks the constraint {broken.rule}{limit}{others}.",
        remedy="Correct it, or say `on_broken: flag` to see which rows do.",
        field="rows" if " " in broken.rule else f"columns.{broken.column}",
        row=int(rows[0]),
    )
