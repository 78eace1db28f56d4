"""Expectations: what a data set has to be like for the run to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from millrace import errors
from millrace_cleaning.expectations import Bounds, Expectation


def check_expectations(expected: Sequence[Expectation], profile: Mapping[str, Any]) -> None:
    """Hold the profile of a data set (`profile.json`) against what is expected of it.

    Raises:
        InvalidData: Some of it is not so; the message names all that is not, with what was found.
    """
    broken = [
        (f"with.expect.{number}", fault)
        for number, expectation in enumerate(expected)
        for fault in (*_faults(expectation, profile), *_repeats(number, profile))
    ]
    if broken:
        raise errors.InvalidData(
            f"{len(broken)} expectations are broken: " + "; ".join(fault for _, fault in broken) + ".",
            remedy="Correct the data or the recipe, or what is expected.",
            field=broken[0][0],
            broken=[fault for _, fault in broken],
        )


def _faults(expectation: Expectation, profile: Mapping[str, Any]) -> Iterator[str]:
    if expectation.rows is not None:
        yield from _outside("rows", profile["rows_out"], expectation.rows)
    if expectation.removed is not None:
        share = 1 - profile["rows_out"] / profile["rows_in"] if profile["rows_in"] else 0.0
        yield from _outside("the share of rows removed", share, expectation.removed)
    if expectation.column:
        yield from _column_faults(expectation, profile)


def _repeats(number: int, profile: Mapping[str, Any]) -> Iterator[str]:
    for found in profile.get("repeats", ()):
        if found["expectation"] == number and found["rows"]:
            yield f"{', '.join(found['columns'])}: {found['rows']} rows repeat another, such as {found['example']}"


def _column_faults(expectation: Expectation, profile: Mapping[str, Any]) -> Iterator[str]:
    name = expectation.column
    if name not in profile["columns"]:
        yield f"there is no column {name!r} ({errors.nearest(name, profile['columns']).rstrip('.')})"
        return
    column = profile["columns"][name]
    rows = profile["rows_out"]
    if expectation.nulls is not None:
        share = sum(column["nulls"].values()) / rows if rows else 0.0
        yield from _outside(f"the share of nulls in {name!r}", share, expectation.nulls)
    if expectation.distinct is not None:
        if "distinct" not in column:
            yield f"distinct values of {name!r} are not counted: it is of type {column['type']}, no category"
        else:
            yield from _outside(f"distinct values of {name!r}", column["distinct"], expectation.distinct)
    wanted = [(what, getattr(expectation, what)) for what in ("min", "max", "mean")]
    if any(bounds is not None for _, bounds in wanted):
        yield from _number_faults(name, column, wanted)


def _number_faults(
    name: str, column: Mapping[str, Any], wanted: Sequence[tuple[str, Bounds | None]]
) -> Iterator[str]:  # fmt: skip
    numbers = [about for key, about in column.items() if isinstance(about, Mapping) and about.get("count")]
    if "distinct" in column or not numbers:
        yield f"{name!r} ({column['type']}) has no numbers"
        return
    count = sum(about["count"] for about in numbers)
    found = {
        "min": min(about["min"] for about in numbers),
        "max": max(about["max"] for about in numbers),
        "mean": sum(about["mean"] * about["count"] for about in numbers) / count,
    }
    for what, bounds in wanted:
        if bounds is not None:
            yield from _outside(f"{what} of {name!r}", found[what], bounds)


def _outside(what: str, found: float, bounds: Bounds) -> Iterator[str]:
    if bounds.min is not None and found < bounds.min:
        yield f"{what}: expected at least {bounds.min:g}, found {found:.6g}"
    if bounds.max is not None and found > bounds.max:
        yield f"{what}: expected at most {bounds.max:g}, found {found:.6g}"
