"""What a user may expect of a data set. Imports pydantic alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from millrace.contracts.faults import short
from millrace.contracts.shorthand import OneOrMore
from millrace.contracts.stages import StageConfig

_FORMS: Mapping[str, str] = {
    "rows": "{rows: {min: 10000}}",
    "removed": "{removed: {max: 0.2}}",
    "unique": "{unique: [user, day]}",
    "nulls": "{column: age, nulls: {max: 0.05}}",
    "distinct": "{column: country, distinct: {min: 2, max: 200}}",
    "min": "{column: age, min: 0}",
    "max": "{column: age, max: 120}",
    "mean": "{column: age, mean: {min: 30, max: 50}}",
}
"""How each expectation is written."""


class Bounds(StageConfig):
    """What a number has to lie between, ends included."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Expectation(StageConfig):
    """Something that a data set has to be like, or else the stage fails: of all its rows, or of one column."""

    rows: Bounds | None = Field(default=None, description="How many rows the data set has.")
    removed: Bounds | None = Field(default=None, description="Share of the source's rows that are not in it.")
    unique: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=(),
        description="Columns whose values together stand in one row alone, of all splits. A row with a null repeats none.",
    )
    column: str = Field(default="", description="What follows is about this column, in all splits.")
    nulls: Bounds | None = Field(default=None, description="Share of nulls.")
    distinct: Bounds | None = Field(default=None, description="Number of labels of a category.")
    min: Bounds | None = Field(
        default=None, description="Smallest number; of a text its length in characters. A number: it is at least that."
    )
    max: Bounds | None = Field(default=None, description="Largest number. A number: it is at most that.")
    mean: Bounds | None = None

    @field_validator("unique", mode="before")
    @classmethod
    def _are_columns(cls, value: object) -> object:
        if isinstance(value, str | list | tuple):
            return value
        raise ValueError(f"expected columns, as in `{_FORMS['unique']}`; found {short(value)}")

    @field_validator("rows", "removed", "nulls", "distinct", "mean", mode="before")
    @classmethod
    def _are_bounds(cls, value: object, info: ValidationInfo) -> object:
        if value is None or isinstance(value, Mapping | Bounds):
            return value
        raise ValueError(f"expected bounds, as in `{_FORMS[str(info.field_name)]}`; found {short(value)}")

    @field_validator("min", "max", mode="before", json_schema_input_type=float | Bounds | None)
    @classmethod
    def _from_number(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {name: value}
        if value is None or isinstance(value, Mapping | Bounds):
            return value
        raise ValueError(f"expected a number, as in `{_FORMS[name]}`, or bounds; found {short(value)}")

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, value: object) -> object:
        if isinstance(value, Mapping | Expectation):
            return value
        form = _FORMS.get(value.split()[0], "") if isinstance(value, str) and value.strip() else ""
        raise ValueError(f"expected a mapping such as `{form or _FORMS['rows']}`; found {short(value)}")

    @model_validator(mode="after")
    def _says_something(self) -> Expectation:
        about_column = {n for n in ("nulls", "distinct", "min", "max", "mean") if getattr(self, n) is not None}
        if about_column and not self.column:
            name = min(about_column)
            raise ValueError(f"{name}: say of which column, as in `{_FORMS[name]}`")
        if self.column and not about_column:
            raise ValueError(f"say what is expected of {self.column!r}: nulls, distinct, min, max or mean")
        if not self.column and not self.unique and self.rows is None and self.removed is None:
            raise ValueError("give rows, removed, unique, or a column and what is expected of it")
        return self


def _is_a_list(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    raise ValueError(f"expected a list, as in `[{_FORMS['rows']}]`; found {short(value)}")


Expectations = Annotated[
    tuple[Expectation, ...], BeforeValidator(_is_a_list, json_schema_input_type=tuple[Expectation, ...])
]
