"""`model.json`: what a model package says of itself, in two levels: the user's columns and the program's tensors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.ids import DigestText
from millrace.contracts.schema import ColumnType

DType = Literal["float32", "float16", "int64", "int32", "uint8", "bool"]


class ColumnSpec(Contract):
    """A column that the user sends."""

    name: str
    type: ColumnType
    nullable: bool = False
    shape: tuple[int, ...] | None = None
    vocabulary: tuple[str, ...] | None = None


class TensorSpec(Contract):
    """A tensor of the program. A dimension is a number, or a name where it varies, such as `batch`."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


class OutputSpec(Contract):
    """A column of the answer, with its meaning."""

    name: str
    meaning: Literal["label", "probabilities", "value", "text", "logits"]
    labels: tuple[str, ...] | None = Field(default=None, description="Ordered: position i is what probability i is of.")
    unit: str = ""
    threshold: float | None = None


class FeaturizerOp(Contract):
    """One declarative, versioned operation, such as `standardize@1`: columns in, a tensor out."""

    op: str = Field(description="`name@version`.")
    columns: tuple[str, ...]
    output: str = Field(description="Name of the tensor it makes or appends to.")
    arguments: dict[str, Any] = Field(default_factory=dict)
    asset: str = Field(
        default="",
        description="What it learned: a path in the package, such as `featurizer/standardize-0.safetensors`.",
    )


class Signature(Contract):
    """How a model is called."""

    columns: tuple[ColumnSpec, ...]
    outputs: tuple[OutputSpec, ...]
    program_inputs: tuple[TensorSpec, ...]
    program_outputs: tuple[TensorSpec, ...]
    featurizer: tuple[FeaturizerOp, ...]


class Program(Contract):
    """One executable form of the model."""

    path: str = Field(description="Path in the package, such as `programs/fp32.onnx`.")
    format: Literal["onnx", "openvino"]
    opset: int = Field(default=0, ge=0)
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    size_bytes: int = Field(ge=0)
    files: tuple[str, ...] = Field(default=(), description="Further files of the program, such as OpenVINO's `.bin`.")


class Lineage(Contract):
    """What made this model."""

    dataset: DigestText | None = None
    source_model: DigestText | None = None
    run_id: str = Field(default="", description="Of models of 0.1. Later ones' bytes do not depend on who made them.")
    seed: int = 0
    code_version: str = ""


class ModelCard(Contract):
    """`model.json`."""

    format: Literal["millrace.model/v1"] = "millrace.model/v1"
    task: str = Field(description="Task kind, such as `text_classification`.")
    architecture: str = Field(description="`name@version`; forward never changes under its version.")
    arguments: dict[str, Any]
    num_parameters: int = Field(ge=0)
    flops_per_example: int = Field(ge=0)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    programs: tuple[Program, ...] = Field(description="The first is the one that runs unless told otherwise.")
    requires: Literal["portable", "torch"] = "portable"
    licence: str = ""
    lineage: Lineage = Lineage()
    signature: Signature
    weights: str = Field(default="weights.safetensors", description="Empty in a package made for serving alone.")
    golden: str = Field(default="golden.parquet", description="At least 16 raw rows with the fp32 program's outputs.")
