"""What an evaluate stage takes: its ports and what stands under `with`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from millrace import errors
from millrace.contracts.schema import SplitName
from millrace.contracts.shorthand import OneOrMore
from millrace.contracts.stages import Port, StageConfig, StageKind
from millrace_evaluation.gate import parse_rule


class EvaluateConfig(StageConfig):
    """`with` of an evaluate stage."""

    gate: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=(),
        description="Rules that must all pass, such as `accuracy >= 0.95`, `accuracy non_inferior_to current by 0.005`, "
        "`not worse than the current release`. Numbers are compared with the point estimate, models by the paired interval.",
    )
    split: SplitName = Field(default="test", description="Which split judges. Training never sees test.")
    num_bootstrap: int = Field(
        default=1000, ge=100, le=100_000, description="Resamples; a thousand fix a 95% bound to about a tenth of it."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Share of resamples inside an interval.")
    max_source_loss: float = Field(
        default=0.02, ge=0, le=1,
        description="Of a model that `optimize` made: how much of its source's primary metric it may lose, as a share, "
        "judged by the paired interval.",
    )  # fmt: skip
    rows_per_batch: int = Field(default=1024, ge=1, le=65_536, description="Rows that one call of the model takes.")
    program: str = Field(default="", description="Which of the model's programs is judged; empty: its first.")

    @field_validator("gate")
    @classmethod
    def _parses(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for index, rule in enumerate(rules):
            try:
                parse_rule(rule)
            except errors.InvalidSpec as error:
                raise ValueError(f"rule {index + 1}, {rule!r}: {error.message} {error.remedy}") from None
        return rules


EVALUATE = StageKind(
    name="evaluate",
    caption="Judges a model on the test split and passes or fails its gate.",
    service="evaluation",
    module="millrace_evaluation.stage",
    config=EvaluateConfig,
    inputs={
        "model": Port(type="model"),
        "dataset": Port(type="dataset"),
        "current": Port(type="model", optional=True, auto=False),
        "source": Port(type="model", optional=True, auto=False),
    },
    outputs={"report": Port(type="report")},
    preload=("onnxruntime", "millrace.models.scoring"),
)
