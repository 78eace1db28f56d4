"""What a user may ask of tables. Imports pydantic alone."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.stages import StageConfig
from millrace_cleaning.steps.settings import StepConfig
from millrace_cleaning.steps.table.units import UNIT_NAMES

OnBroken = Literal["remove", "flag", "nullify", "fail"]
Bound = int | float | str

_COMPARISON = re.compile(r"^\s*(`[^`]+`|[^\s`<>=!]+)\s*(<=|>=|==|!=|<|>)\s*(`[^`]+`|[^\s`<>=!]+)\s*$")


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

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set - {"on_broken"}:
            raise ValueError("no rule is given; such as not_null, ge, le, isin, regex or max_length")
        return self


class Comparison(StageConfig):
    """Two columns of a row, compared."""

    left: str
    operator: Literal["<=", ">=", "==", "!=", "<", ">"]
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


class CheckTable(StepConfig):
    """Hold every row against constraints, column by column and between columns; a finding says which rule and value.

    Whether values are unique is no matter of one row: see `dedup`.
    """

    runs_in = "millrace_cleaning.steps.table.checking"
    column_types = ()
    is_changing = True

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

    step: Literal["outliers"] = "outliers"
    columns: tuple[str, ...] = Field(default=(), description="Default: all features that are numbers or integers.")
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

    @property
    def width(self) -> float:
        return self.k if self.k is not None else {"iqr": 3.0, "mad": 3.5, "z": 4.0}[self.method]


class MapValues(StepConfig):
    """Bring one spelling into a column of categories: white space, case, synonyms."""

    runs_in = "millrace_cleaning.steps.table.spelling"
    column_types = ("category", "text")
    is_changing = True

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

    step: Literal["convert_units"] = "convert_units"
    unit: str = Field(description="Unit of the new column, such as kg, cm, km/h or °C.")
    assume: str = Field(default="", description="Unit of a number without one; default: such a value is unreadable.")
    decimal: Literal["auto", ".", ","] = Field(
        default="auto",
        description="auto: of two signs the last is the decimal one; a comma alone is, unless three digits follow it.",
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


STEPS = (CheckTable, Outliers, MapValues, ConvertUnits)
