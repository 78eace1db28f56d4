"""What the values of a column can be held against, and whether that makes sense for its type. Imports pydantic alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.stages import StageConfig

OnBroken = Literal["remove", "flag", "nullify", "fail"]
Bound = int | float | str

SORTS: Mapping[ColumnType, str] = {
    "number": "number", "integer": "number", "timestamp": "timestamp", "text": "text", "category": "text",
    "json": "text", "boolean": "boolean",
}  # fmt: skip
"""What values of a type are compared as; types that are not here have no order."""


class Constraints(StageConfig):
    """What the values of one column must be. A null keeps every rule but `not_null`."""

    not_null: bool = False
    ge: Bound | None = Field(default=None, description="At least; timestamps are compared with ISO 8601 text.")
    gt: Bound | None = Field(default=None, description="More than.")
    le: Bound | None = Field(default=None, description="At most.")
    lt: Bound | None = Field(default=None, description="Less than.")
    isin: tuple[bool | int | float | str, ...] | None = Field(default=None, min_length=1, description="One of these.")
    notin: tuple[bool | int | float | str, ...] | None = Field(default=None, min_length=1, description="None of these.")
    regex: str | None = Field(default=None, description="The whole text must match (RE2 syntax).")
    min_length: int | None = Field(default=None, ge=0, description="Of a text, in characters.")
    max_length: int | None = Field(default=None, ge=0, description="Of a text, in characters.")
    on_broken: OnBroken | None = Field(default=None, description="Default: the step's.")

    @field_validator("regex")
    @classmethod
    def _is_a_regex(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value[:80] if value else ''!r} is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set - {"on_broken"}:
            raise ValueError("no rule is given; such as not_null, ge, le, isin, regex or max_length")
        return self


def check_name(name: str, columns: Mapping[str, tuple[ColumnType, Role]], *, field: str) -> None:
    if name not in columns:
        raise errors.InvalidData(f"The data has no column {name!r}; {errors.nearest(name, columns)}", field=field)


def check_bounds(name: str, type_: ColumnType, constraints: Constraints) -> None:
    """Refuse rules that say nothing of a column's type."""
    sort = SORTS.get(type_, "")
    for rule in constraints.model_fields_set - {"not_null", "on_broken"}:
        asked = getattr(constraints, rule)
        bounds = asked if isinstance(asked, tuple) else (asked,)
        if asked is None:
            continue
        if rule in ("regex", "min_length", "max_length"):
            fits = sort == "text"
        elif rule in ("isin", "notin"):
            fits = sort != "timestamp" and all(_is_of(sort, type_, bound) for bound in bounds)
        else:
            fits = sort != "boolean" and all(_is_of(sort, "number", bound) for bound in bounds)
        if not fits:
            raise errors.InvalidData(
                f"The rule {rule}: {asked!r} cannot hold for column {name!r}, which is of type {type_}.",
                remedy=f"Give bounds of its type, or say `columns: {{{name}: {{type: ...}}}}` of the stage.",
                field=f"columns.{name}.{rule}",
            )


def _is_of(sort: str, type_: ColumnType, bound: object) -> bool:
    """Whether a bound can be compared with values of a sort. An integer column has no values such as 1.5."""
    if sort == "number":
        return isinstance(bound, int if type_ == "integer" else (int, float)) and not isinstance(bound, bool)
    if sort == "timestamp":
        return isinstance(bound, str) and _is_moment(bound)
    return isinstance(bound, bool) if sort == "boolean" else sort == "text" and isinstance(bound, str)


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
