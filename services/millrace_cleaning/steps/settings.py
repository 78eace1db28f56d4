"""What every step of a recipe has in common for those who write pipelines. Imports pydantic alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.stages import StageConfig


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

    column: str = Field(default="", description="Column to work on; default: the only one of the step's types.")

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        """Columns that the step appends: name, type and role."""
        return ()
