"""What a user may say about cleaning and ingesting, and the two stage kinds. Imports pydantic alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from millrace import errors
from millrace.contracts.schema import TASK_KINDS, ColumnType, Role, SplitName
from millrace.contracts.shorthand import OneOrMore
from millrace.contracts.stages import Port, StageConfig, StageKind
from millrace_cleaning.expectations import Expectations
from millrace_cleaning.near.settings import NearDedup
from millrace_cleaning.read_settings import ReadConfig
from millrace_cleaning.steps.kinds import Step

NullPolicy = Literal["keep", "drop", "fail", "impute"]
BadValuePolicy = Literal["nullify", "fail"]


Names = Annotated[tuple[str, ...], OneOrMore()]
"""One column name, or a list of them."""


class ColumnConfig(StageConfig):
    """What is known about a column; whatever is left out is inferred."""

    type: ColumnType | None = None
    role: Role | None = None
    shape: tuple[int, ...] | None = Field(
        default=None, description="Of a vector (n), or of images given as numbers: (height, width, channels)."
    )
    vocabulary: tuple[str, ...] | None = Field(
        default=None, description="A category's labels, in order; any other value is unparseable."
    )
    unit: str = ""
    on_null: NullPolicy | None = Field(
        default=None,
        description="keep: stays null; drop: the row goes; fail: an error; impute: the training split's median or most "
        "frequent value. Default: drop for a target, for a text to learn from and for an image; fail for a group and a "
        "time; else keep.",
    )
    on_unparseable: BadValuePolicy | None = Field(
        default=None, description="A value that is not of the column's type: nullify (and count), or fail."
    )

    @field_validator("shape")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 1):
            raise ValueError("expected at least one dimension, each 1 or more, such as [8, 8, 1]")
        return value

    @field_validator("vocabulary")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("a label stands twice in the vocabulary")
        return value


class SplitConfig(StageConfig):
    """How rows are divided. Duplicates, and rows of one group, never stand on both sides."""

    train: float = Field(default=0.64, gt=0, le=1)
    validation: float = Field(default=0.16, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    by: str = Field(default="", description="A column, such as a user; all rows of one value go to one split.")
    time: str = Field(default="", description="A column; the earliest rows train, the latest test.")
    order: Literal["random", "contiguous"] = Field(
        default="random",
        description="random: seeded, stratified by a category target; contiguous: the source's order, its tail tests "
        "(for language modelling the cut is made between characters).",
    )
    seed: int | None = Field(default=None, ge=0, description="Default: the run's seed.")

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"train + validation + test must be 1, and is {total:.6g}: "
                f"{self.train} + {self.validation} + {self.test}"
            )
        if sum((bool(self.by), bool(self.time), self.order == "contiguous")) > 1:
            raise ValueError("give only one of by, time and order: contiguous")
        return self

    @property
    def fractions(self) -> dict[SplitName, float]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


class CleanConfig(ReadConfig):
    """`with` of a clean stage."""

    task: str = Field(default="", description="Task kind; when given, roles and types are checked against it here.")
    target: Names = Field(default=(), description="Column(s) to predict.")
    features: Names = Field(
        default=(), description="Columns to learn from; default: all that have no other role. Others are ignored."
    )
    ignore: Names = Field(default=(), description="Columns that are kept but never learned from.")
    drop: Names = Field(
        default=(), description="Columns of the source that the data set does not have, and no step sees."
    )
    columns: dict[str, ColumnConfig] = Field(default_factory=dict)
    steps: tuple[Step, ...] = Field(
        default=(),
        max_length=200,
        description="What is done to the rows after their columns have types, in this order: rules that remove rows, and "
        "repairs. Every row that goes or changes is in the account.",
    )
    split: SplitConfig = SplitConfig()
    dedup: bool | None = Field(
        default=None,
        description="Keep only the first of rows with equal features. Default: true, unless all features are categories, "
        "integers, booleans or timestamps, where equal rows are usually separate observations. If kept, they share a split.",
    )
    near_dedup: NearDedup = Field(
        default=None,
        description="Find rows whose texts are nearly equal, across all of the source; true: as it is by default. "
        "Default: no.",
    )
    expect: Expectations = Field(
        default=(),
        max_length=1000,
        description="What the data set has to be like; else the stage fails and says what is not.",
    )
    account: Literal["all", "removed"] = Field(
        default="all", description="Whether the account tells of every row that was touched, or of those that went."
    )
    on_null_target: Literal["drop", "fail"] = "drop"
    on_unparseable: BadValuePolicy = "nullify"
    rows_per_shard: int = Field(default=65_536, ge=1, le=10_000_000)
    bytes_per_task: int = Field(
        default=64 * 2**20, ge=1, description="A larger source is read by several tasks of about this many bytes."
    )

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value and value not in TASK_KINDS:
            raise ValueError(f"no task kind {value!r}; {errors.nearest(value, TASK_KINDS)}")
        return value

    @model_validator(mode="after")
    def _near_duplicates_can_stay_together(self) -> CleanConfig:
        is_random = not self.split.by and not self.split.time and self.split.order == "random"
        if self.near_dedup is not None and not self.near_dedup.drop and not is_random:
            raise ValueError(
                "near_dedup: near-duplicates that stay can share a split only where it is random; say `drop: true`"
            )
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> CleanConfig:
        both = set(self.target) & set(self.features) | set(self.target) & set(self.ignore)
        both |= set(self.features) & set(self.ignore)
        if both:
            raise ValueError(f"{min(both)!r} stands in two of target, features and ignore")
        used = {*self.target, *self.features, *self.ignore, *self.columns, self.split.by, self.split.time}
        if used & set(self.drop):
            raise ValueError(f"drop: {min(used & set(self.drop))!r} is used elsewhere, so it cannot go")
        return self


class IngestConfig(StageConfig):
    """`with` of an ingest stage."""

    uri: str = Field(
        min_length=1, description="s3://bucket/prefix; in the embedded factory also a local file or directory."
    )
    max_bytes: int = Field(
        default=2**40, ge=1, description="A location that holds more is refused, before any of it is copied."
    )


CLEAN = StageKind(
    name="clean",
    caption="Turn raw files into a data set: typed, repaired, deduplicated, split without leaks.",
    service="cleaning",
    module="millrace_cleaning.stage",
    config=CleanConfig,
    inputs={"raw": Port(type="source"), "terms": Port(type="source", optional=True, auto=False)},
    outputs={"dataset": Port(type="dataset"), "quarantine": Port(type="quarantine", auto=False)},
    preload=("numpy", "pyarrow", "pyarrow.parquet"),
)

INGEST = StageKind(
    name="ingest",
    caption="Copy an outside location into the store, once.",
    service="cleaning",
    module="millrace_cleaning.ingest",
    config=IngestConfig,
    inputs={},
    outputs={"source": Port(type="source")},
    bytes="measured",
    cacheable=False,  # the outside may change between two runs of equal config
)
