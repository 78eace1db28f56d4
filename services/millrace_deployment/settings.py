"""What `deploy` and `predict` accept under `with`, and their stage kinds. Light: imported to plan, not to work."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints, field_validator

from millrace.contracts.ids import Name
from millrace.contracts.schema import SplitName
from millrace.contracts.stages import Port, StageConfig, StageKind

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class DeployConfig(StageConfig):
    """Make a judged model the release of an endpoint."""

    endpoint: Name = Field(description="The address that will serve the model, such as `reviews`.")
    sample: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None,
        max_length=64,
        description="Rows of a request that must be answered before the run succeeds; empty: golden rows of the model.",
    )
    prompt: str = Field(
        default="",
        max_length=10_000,
        description="What a language model must continue before the run succeeds; empty: from its golden rows.",
    )
    ready_timeout_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="How long loading and proving the candidate may take; a minute suffices for gigabytes from a disk.",
    )

    @field_validator("sample")
    @classmethod
    def _no_empty_sample(cls, rows: tuple[dict[str, JsonValue], ...] | None) -> tuple[dict[str, JsonValue], ...] | None:
        if rows is not None and not rows:
            raise ValueError("expected at least one row; leave `sample` out to use the model's golden rows")
        return rows


class PredictConfig(StageConfig):
    """Predict every row of a data set or of a source of raw rows."""

    num_shards: int = Field(
        default=8, ge=1, le=100_000, description="Into how many tasks the rows are cut, at least; rows allowing."
    )
    rows_per_shard: int = Field(
        default=65_536,
        ge=1,
        le=10_000_000,
        description="At most this many rows a task, so that a lost worker costs little; more tasks if need be.",
    )
    rows_per_batch: int = Field(
        default=1024, ge=1, le=65_536, description="Rows that one call of the model takes; bounds memory."
    )
    splits: tuple[SplitName, ...] = Field(
        default=("train", "validation", "test"), min_length=1, description="Which splits of a data set, in this order."
    )
    columns: tuple[ColumnName, ...] = Field(
        default=(), max_length=256, description="Columns of the input that the predictions repeat, such as a target."
    )
    program: str = Field(
        default="", description="Which of the model's programs runs, such as `programs/fp32.onnx`; empty: its first."
    )

    @field_validator("splits", "columns")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"expected each name once, found {', '.join(twice)} more than once")
        return names


_PRELOAD = ("numpy", "pyarrow", "pyarrow.parquet", "onnxruntime", "millrace.models.predictor")

DEPLOY = StageKind(
    name="deploy",
    caption="Proves a judged model without traffic and makes it the release of an endpoint.",
    service="deployment",
    module="millrace_deployment.deploy",
    config=DeployConfig,
    inputs={"model": Port(type="model"), "report": Port(type="report")},
    outputs={"release": Port(type="release")},
    bytes="measured",
    effect="release",
    cacheable=False,
    preload=_PRELOAD,
    required_fields=("endpoint",),
)

PREDICT = StageKind(
    name="predict",
    caption="Predicts every row of a data set or source, in parallel shards.",
    service="deployment",
    module="millrace_deployment.predict",
    config=PredictConfig,
    inputs={"model": Port(type="model"), "data": Port(type="any")},
    outputs={"predictions": Port(type="predictions")},
    preload=_PRELOAD,
)
