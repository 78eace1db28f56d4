"""What a user may ask of tables. Imports pydantic alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.stages import StageConfig
from millrace_cleaning.steps.settings import Distribution, StepConfig
from millrace_cleaning.steps.table.constraints import SORTS, Constraints, OnBroken, check_bounds, check_name
from millrace_cleaning.steps.table.units import UNIT_NAMES

_COMPARISON = re.compile(r"^\s*(`[^`]+`|[^\s`<>=!]+)\s*(<=|>=|==|!=|<|>)\s*(`[^`]+`|[^\s`<>=!]+)\s*$")


class Comparison(StageConfig):
    """Two columns of a row, compared."""

    left: str
    operator: Literal["<=", ">=", "==", "!=", "<", ">"]
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


class CheckTable(StepConfig):
    """Hold every row against constraints, column by column and between columns; a finding says which rule and value.

    Whether values are unique is no matter of one row: see `unique` of `expect`.
    """

    runs_in = "millrace_cleaning.steps.table.checking"
    column_types = ()
    is_changing = True
    example = "columns: {age: {ge: 0, le: 120}, email: {not_null: true}}, rows: [start <= end]"

    step: Literal["check_table"] = "check_table"
    columns: dict[str, Constraints] = Field(default_factory=dict, description="Constraints by column.")
    rows: tuple[str, ...] = Field(
        default=(), description="Comparisons of two columns, such as `start <= end`; names with spaces in backticks."
    )
    on_broken: OnBroken = Field(
        default="remove",
        description="remove: the row goes; flag: the report says so; nullify: the value (of `rows`: the left one) becomes "
        "null; fail: the run ends.",
    )

    @field_validator("rows")
    @classmethod
    def _are_comparisons(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = next((text for text in value if not _COMPARISON.match(text)), None)
        if wrong is not None:
            raise ValueError(f"expected two columns and one of <= >= == != < > between them, found {wrong[:80]!r}")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.columns and not self.rows:
            raise ValueError("give constraints in columns, or comparisons in rows")
        return self

    def resolved(self, columns: Mapping[str, tuple[ColumnType, Role]]) -> Self:
        for name, constraints in self.columns.items():
            check_name(name, columns, field=f"columns.{name}")
            check_bounds(name, columns[name][0], constraints)
        for text, comparison in zip(self.rows, self.comparisons(), strict=True):
            for name in (comparison.left, comparison.right):
                check_name(name, columns, field="rows")
            sorts = [SORTS.get(columns[name][0], "") for name in (comparison.left, comparison.right)]
            if sorts[0] != sorts[1] or not sorts[0]:
                raise errors.InvalidData(
                    f"{text!r} compares {columns[comparison.left][0]} with {columns[comparison.right][0]}.",
                    remedy="Compare two numbers, two timestamps or two texts.",
                    field="rows",
                )
        return self

    def comparisons(self) -> tuple[Comparison, ...]:
        found = [match.groups() for match in map(_COMPARISON.match, self.rows) if match]
        return tuple(Comparison(left=a.strip("`"), operator=op, right=b.strip("`")) for a, op, b in found)


class Fence(StageConfig):
    """The range in which values are no outliers, ends included."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Outliers(StepConfig):
    """Find numbers far from the rest of their column, by statistics over all rows of the source as they came.

    Source:
        Tukey 1977 (iqr); Iglewicz and Hoaglin 1993 (mad, with 0.6745 as in their modified z-score).
    """

    runs_in = "millrace_cleaning.steps.table.outliers"
    column_types = ()
    is_changing = True
    example = "columns: [price], method: iqr, action: remove"

    step: Literal["outliers"] = "outliers"
    columns: tuple[str, ...] = Field(
        default=(),
        description="Default: those in `fences`, else all features that are numbers. One that a step appended needs a fence.",
    )
    method: Literal["iqr", "mad", "z"] = Field(
        default="iqr",
        description="iqr: k interquartile ranges outside the quartiles; mad: modified z-score above k; z: k standard "
        "deviations from the mean.",
    )
    k: float | None = Field(default=None, gt=0, description="Default: 3 of iqr, 3.5 of mad, 4 of z.")
    fences: dict[str, Fence] = Field(
        default_factory=dict, description="Ranges that are known, by column; those left out are found."
    )
    action: Literal["flag", "remove", "clip", "nullify"] = "flag"

    def resolved(self, columns: Mapping[str, tuple[ColumnType, Role]]) -> Self:
        found = [name for name, (type_, role) in columns.items() if _is_numeric(type_) and role == "feature"]
        asked = self.columns or (() if self.fences else found)
        names = tuple(dict.fromkeys([*asked, *self.fences]))
        for name in names:
            check_name(name, columns, field="columns")
            if not _is_numeric(columns[name][0]):
                raise errors.InvalidData(
                    f"Column {name!r} is of type {columns[name][0]}; outliers are found among numbers.", field="columns"
                )
        return self.model_copy(update={"columns": names})

    def informed(self, numbers: Mapping[str, Distribution]) -> Self:
        """Find the fences that were not given. A column without numbers, or without spread, has none."""
        fences = dict(self.fences)
        for name in self.columns:
            fence = None if name in fences or name not in numbers else self._fence(numbers[name])
            if fence is not None:
                fences[name] = fence
        return self.model_copy(update={"fences": {name: fences[name] for name in self.columns if name in fences}})

    def _fence(self, numbers: Distribution) -> Fence | None:
        if not numbers.count:
            return None
        if self.method == "iqr":
            low, high = numbers.quantile(0.25), numbers.quantile(0.75)
            reach = (high - low) * (3.0 if self.k is None else self.k)
        elif self.method == "mad":
            low = high = numbers.quantile(0.5)
            reach = numbers.median_deviation() / 0.6745 * (3.5 if self.k is None else self.k)
        else:
            low = high = numbers.mean()
            reach = numbers.standard_deviation() * (4.0 if self.k is None else self.k)
        is_sound = reach > 0 and math.isfinite(low - reach) and math.isfinite(high + reach)
        return Fence(low=low - reach, high=high + reach) if is_sound else None


def _is_numeric(type_: ColumnType) -> bool:
    return type_ in ("number", "integer")


class MapValues(StepConfig):
    """Bring one spelling into a column of categories: white space, case, synonyms."""

    runs_in = "millrace_cleaning.steps.table.spelling"
    column_types = ("category", "text")
    is_changing = True
    example = "column: country, synonyms: {germany: DE}, known: [DE, FR], unknown: remove"

    step: Literal["map_values"] = "map_values"
    squeeze: bool = Field(default=True, description="White space at the ends goes, inside it becomes one space.")
    case: Literal["", "lower", "upper", "title"] = Field(default="", description="Default: as it is.")
    synonyms: dict[str, str] = Field(
        default_factory=dict, description="Spelling -> what it is to be, compared after the steps above, in any case."
    )
    known: tuple[str, ...] = Field(
        default=(), description="All values there may be; a value that is one but for its case becomes that one."
    )
    unknown: Literal["keep", "flag", "nullify", "remove"] = Field(
        default="flag", description="What becomes of a value that is not in `known`, where that is given."
    )


class ConvertUnits(StepConfig):
    """Read quantities such as `12 kg`, `5'11"` or `3,5 km/h`, and append them as numbers in one unit."""

    runs_in = "millrace_cleaning.steps.table.quantities"
    column_types = ("text", "category")
    example = "column: weight, unit: kg, assume: kg"

    step: Literal["convert_units"] = "convert_units"
    unit: str = Field(description="Unit of the new column, such as kg, cm, km/h or °C.")
    assume: str = Field(default="", description="Unit of a number without one; default: such a value is unreadable.")
    decimal: Literal["auto", ".", ","] = Field(
        default="auto",
        description="auto: a point wherever the number can be read so (1,234 is a thousand), else a comma (3,5; 0,125).",
    )
    into: str = Field(default="", description="Name of the new column; default: the old one's, then `_` and the unit.")
    unreadable: Literal["flag", "remove"] = Field(
        default="flag", description="Unreadable values are null in the new column."
    )

    @field_validator("unit", "assume")
    @classmethod
    def _is_a_unit(cls, value: str) -> str:
        if value and value not in UNIT_NAMES:
            raise ValueError(f"no unit {value!r}; {errors.nearest(value, UNIT_NAMES)}")
        return value

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        return ((self.into or f"{self.column}_{self.unit}", "number", "feature"),)

    def added_units(self) -> Mapping[str, str]:
        return {name: self.unit for name, _, _ in self.added_columns()}


STEPS = (CheckTable, Outliers, MapValues, ConvertUnits)
