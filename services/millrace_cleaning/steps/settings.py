"""What every step of a recipe has in common for those who write pipelines. Imports pydantic alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import core_schema

from millrace import errors
from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.stages import StageConfig


class Distribution(Protocol):
    """What is known of all numbers of a column before the first row is changed. Quantiles of nothing are NaN."""

    @property
    def count(self) -> int: ...
    def quantile(self, share: float) -> float: ...
    def mean(self) -> float: ...
    def standard_deviation(self) -> float: ...
    def median_deviation(self) -> float: ...


class StepConfig(StageConfig):
    """One step of a recipe. A subclass adds `step: Literal["its_name"]` and its own fields.

    Its module, `runs_in`, has `apply(batch, config, scratch) -> Outcome`.
    """

    runs_in: ClassVar[str]
    extra: ClassVar[str] = ""
    """The extra of millrace that the step needs."""
    column_types: ClassVar[tuple[ColumnType, ...]] = ("text",)
    """Types of column that the step works on; empty for a step about whole rows."""
    is_changing: ClassVar[bool] = False
    """Whether it writes into columns: rows that earlier steps removed are taken out before it."""
    is_private: ClassVar[bool] = False
    """Whether the column's raw values may be shown and kept nowhere: not in messages, scans or a quarantine."""
    example: ClassVar[str] = ""
    """Fields beside `step`, in YAML, of a use that shows what the step is for."""

    column: str = Field(
        default="",
        description="Column to work on; default: the only one of the step's types, or the only feature among several.",
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The published schema says of a step its family, its extra and an example too."""
        reference = handler(schema)
        about = handler.resolve_ref_schema(reference)
        about["x-family"], about["x-extra"] = cls.runs_in.split(".")[-2], cls.extra
        step = f"step: {about['properties']['step']['const']}"
        about["x-example"] = f"{{{', '.join(filter(None, (step, cls.example)))}}}"
        return reference

    def resolved(self, columns: Mapping[str, tuple[ColumnType, Role]]) -> Self:
        """This step with the names of the columns it works on, checked against the columns there are: name -> type, role.

        A subclass that names columns in other fields checks them here too.

        Raises:
            InvalidData: There is no such column, or none or several fit; `field` is the path within the step.
        """
        fitting = [name for name, (type_, _) in columns.items() if type_ in self.column_types]
        if not self.column_types:
            return self
        meant = [name for name in fitting if columns[name][1] == "feature"] if len(fitting) > 1 else fitting
        if not self.column and len(meant) != 1:
            types = " or ".join(self.column_types)
            raise errors.InvalidData(
                f"Say which column: {len(fitting)} are of type {types}: {', '.join(fitting[:20])}."
                if fitting else f"No column is of type {types}.",
                field="column",
            )  # fmt: skip
        name = self.column or meant[0]
        if name not in columns:
            raise errors.InvalidData(
                f"The data has no column {name!r}; {errors.nearest(name, columns)}", field="column"
            )
        if name not in fitting:
            raise errors.InvalidData(
                f"Column {name!r} is of type {columns[name][0]}, and not {' or '.join(self.column_types)}.",
                remedy=f"Name another, or say `columns: {{{name}: {{type: {self.column_types[0]}}}}}`.",
                field="column",
            )
        return self.model_copy(update={"column": name})

    def informed(self, numbers: Mapping[str, Distribution]) -> Self:  # noqa: ARG002  # for those whom it helps
        """This step, resolved, with what depends on all rows filled in: numbers of the source's columns, as they came."""
        return self

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        """Columns that the resolved step appends: name, type and role."""
        return ()

    def added_units(self) -> Mapping[str, str]:
        """Units of appended columns that have one, by name."""
        return {}
