"""What an optimize stage takes: its ports and what stands under `with`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from millrace import errors
from millrace.contracts.shorthand import OneOrMore
from millrace.contracts.stages import Port, StageConfig, StageKind
from millrace_optimization.constraints import parse_constraint

VariantName = Literal[
    "onnx_fp32", "onnx_int8", "onnx_int8_weights", "openvino_fp32", "openvino_fp16", "openvino_int8_weights"
]
ALL_VARIANTS: tuple[VariantName, ...] = get_args(VariantName)
Goal = Literal["latency_p50_ms", "size_bytes"]


class OptimizeConfig(StageConfig):
    """`with` of an optimize stage."""

    variants: tuple[VariantName, ...] = Field(
        default=ALL_VARIANTS,
        min_length=1,
        description="What to build: `onnx_int8` computes in integers, the other small ones only store less.",
    )
    minimize: Goal = Field(default="latency_p50_ms", description="What the chosen variant has least of.")
    subject_to: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=("relative_drop <= 0.01",),
        description="What it must keep, such as `accuracy_drop <= 0.005`, `size_ratio <= 0.5`; point estimates on validation.",
    )
    num_repeats: int = Field(
        default=60, ge=5, le=10_000, description="Timed calls of each variant, one row each, interleaved."
    )
    num_bootstrap: int = Field(default=1000, ge=100, le=100_000, description="Resamples for the interval of the drop.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Share of resamples inside an interval.")
    rows_per_batch: int = Field(default=1024, ge=1, le=65_536, description="Rows that one call of a variant takes.")

    @field_validator("subject_to")
    @classmethod
    def _parses(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        for index, text in enumerate(constraints):
            try:
                parse_constraint(text)
            except errors.InvalidSpec as error:
                raise ValueError(f"constraint {index + 1}, {text!r}: {error.message} {error.remedy}") from None
        return constraints


OPTIMIZE = StageKind(
    name="optimize",
    caption="Makes smaller, faster variants of a model and chooses one that keeps its accuracy.",
    service="optimization",
    module="millrace_optimization.stage",
    config=OptimizeConfig,
    inputs={"model": Port(type="model"), "dataset": Port(type="dataset")},
    outputs={"model": Port(type="model"), "variants": Port(type="variants", auto=False)},
    bytes="measured",
    preload=("onnxruntime.quantization", "openvino", "millrace.models.scoring"),
)
