"""The data schema: columns, their types and roles, splits and shards of a data set; and task kinds with required roles."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from millrace.contracts.base import Contract

ColumnType = Literal[
    "number", "integer", "boolean", "category", "text", "timestamp", "image", "audio", "vector", "tokens", "json"
]
Role = Literal[
    "feature", "target", "id", "group", "time", "weight", "slice", "context", "source", "reference", "user", "item",
    "reward", "ignore",
]  # fmt: skip
SplitName = Literal["train", "validation", "test"]

ROW_ID = "row_id"
"""Every row has one: the first 16 hex digits of the source's digest, `-`, and its ordinal. Stable across re-cleaning."""

SCHEMA_METADATA_KEY = b"millrace.schema"
"""Where schema.json also stands in each Parquet file's metadata."""


class Column(Contract):
    """One column of a data set."""

    name: str
    type: ColumnType
    role: Role = "feature"
    nullable: bool = False
    vocabulary: tuple[str, ...] | None = Field(
        default=None, description="Ordered labels of a category; a value's code is its position."
    )
    shape: tuple[int, ...] | None = Field(
        default=None, description="Of a vector, or of images that all have one: (height, width, channels)."
    )
    unit: str = ""
    minimum: float | None = Field(default=None, description="Smallest number seen in the training split.")
    maximum: float | None = Field(default=None, description="Largest number seen in the training split.")


class DatasetSchema(Contract):
    """`schema.json` of a data set."""

    format: Literal["millrace.dataset/v1"] = "millrace.dataset/v1"
    columns: tuple[Column, ...] = Field(description="Without row_id, in the file's order.")
    task: str = Field(default="", description="The task kind that the roles were checked against; may be empty.")

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)

    def with_role(self, role: Role) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.role == role)


class Shard(Contract):
    """One Parquet file of one split."""

    path: str = Field(description="Path in the manifest, such as `data/train-00000.parquet`.")
    split: SplitName
    num_rows: int = Field(ge=0)


class DatasetMeta(Contract):
    """`meta` of a data set's manifest: enough to plan without opening a file.

    Files of the artifact: `schema.json` (DatasetSchema), `profile.json`, `report.html`, the shards at
    `data/<split>-<5 digits>.parquet`, and where rows were touched the account, `account/part-<5 digits>.parquet`.
    """

    schema_: DatasetSchema = Field(alias="schema")
    shards: tuple[Shard, ...]
    num_rows: dict[SplitName, int]

    def of(self, split: SplitName) -> tuple[Shard, ...]:
        return tuple(s for s in self.shards if s.split == split)


class TaskKind(Contract):
    """A kind of learning task: which roles the data must fill."""

    name: str
    caption: str
    required_roles: tuple[Role, ...]
    target_types: tuple[ColumnType, ...] = ()
    primary_metric: str
    higher_is_better: bool


TASK_KINDS: dict[str, TaskKind] = {
    k.name: k
    for k in (
        TaskKind(name="tabular_classification", caption="a category from a row of a table",
                 required_roles=("feature", "target"), target_types=("category",),
                 primary_metric="accuracy", higher_is_better=True),
        TaskKind(name="tabular_regression", caption="a number from a row of a table",
                 required_roles=("feature", "target"), target_types=("number", "integer"),
                 primary_metric="rmse", higher_is_better=False),
        TaskKind(name="image_classification", caption="a category from an image",
                 required_roles=("feature", "target"), target_types=("category",),
                 primary_metric="accuracy", higher_is_better=True),
        TaskKind(name="text_classification", caption="a category from a text",
                 required_roles=("feature", "target"), target_types=("category",),
                 primary_metric="accuracy", higher_is_better=True),
        TaskKind(name="language_modelling", caption="the next token of a text",
                 required_roles=("feature",), primary_metric="bits_per_character", higher_is_better=False),
    )
}  # fmt: skip
"""Kinds that Millrace ships."""


def json_schema_of(contract: type[Contract]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a contract, as published for editors."""
    return contract.model_json_schema(by_alias=True)
