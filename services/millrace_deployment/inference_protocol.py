"""The Open Inference Protocol (v2), which KServe, Triton and others speak: a model's columns as tensors.

One tensor per column, first dimension the rows. Strings are BYTES. Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

from pydantic import Field, JsonValue

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.views import MAX_PREDICT_ROWS
from millrace.models.signature import ColumnSpec, ModelCard, OutputSpec
from millrace_deployment.registry import Rows

_DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "tokens": "INT64"}
_OUTPUTS = {"label": "BYTES", "text": "BYTES", "probabilities": "FP32", "logits": "FP32", "value": "FP64"}


class InputTensor(Contract):
    name: str
    shape: tuple[int, ...] = Field(min_length=1, max_length=8)
    datatype: Literal[
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "FP32",
        "FP64",
        "BYTES",
    ]
    data: list[JsonValue]
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class WantedOutput(Contract):
    name: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class InferRequest(Contract):
    id: str = ""
    inputs: list[InputTensor] = Field(min_length=1, max_length=4096)
    outputs: list[WantedOutput] = Field(default_factory=list)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


def metadata(name: str, release: int, card: ModelCard) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers."""
    return {
        "name": name,
        "versions": [str(release)],
        "platform": f"millrace_{card.programs[0].format}" if card.programs else "millrace",
        "inputs": [_input(spec) for spec in card.signature.columns],
        "outputs": [_output(spec) for spec in card.signature.outputs],
    }


def decode(request: InferRequest, card: ModelCard) -> Rows:
    """Return the request's rows.

    Raises:
        InvalidData: A tensor is unknown, of another number of rows than the first, or its data does not fill its shape.
    """
    specs = {spec.name: spec for spec in card.signature.columns}
    num_rows = request.inputs[0].shape[0]
    if not 1 <= num_rows <= MAX_PREDICT_ROWS:
        raise errors.InvalidData(
            f"expected 1 to {MAX_PREDICT_ROWS} rows, found {num_rows}.",
            field="inputs[0].shape",
            remedy="Send several requests.",
        )
    columns: dict[str, list[Any]] = {}
    for index, tensor in enumerate(request.inputs):
        field = f"inputs[{index}]"
        if tensor.name not in specs:
            raise errors.InvalidData(
                f"The model has no input {tensor.name!r}; {errors.nearest(tensor.name, specs)}", field=f"{field}.name"
            )
        if tensor.shape[0] != num_rows:
            raise errors.InvalidData(
                f"expected {num_rows} rows as in inputs[0], found {tensor.shape[0]}.", field=f"{field}.shape"
            )
        columns[tensor.name] = _rows_of(tensor, specs[tensor.name], field=field)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def check_outputs(request: InferRequest, card: ModelCard) -> None:
    """Refuse a wanted output that the model has not, before it works in vain. Raises InvalidData."""
    names = [spec.name for spec in card.signature.outputs]
    for index, output in enumerate(request.outputs):
        if output.name not in names:
            raise errors.InvalidData(
                f"The model has no output {output.name!r}; {errors.nearest(output.name, names)}",
                field=f"outputs[{index}].name",
            )


def encode(request: InferRequest, name: str, release: int, card: ModelCard, answer: Rows) -> dict[str, Any]:
    """The answer as tensors: those that the request names, or all."""
    outputs = {spec.name: spec for spec in card.signature.outputs}
    wanted = [output.name for output in request.outputs] or list(outputs)
    return {
        "model_name": name,
        "model_version": str(release),
        "id": request.id,
        "outputs": [_tensor(outputs[output], [row[output] for row in answer]) for output in wanted],
    }


def _input(spec: ColumnSpec) -> dict[str, Any]:
    width = list(spec.shape or ()) if spec.type != "tokens" else [-1]
    datatype = "FP32" if spec.shape is not None else _DATATYPES.get(spec.type, "BYTES")
    return {"name": spec.name, "datatype": datatype, "shape": [-1, *width]}


def _output(spec: OutputSpec) -> dict[str, Any]:
    width = [len(spec.labels)] if spec.meaning in ("probabilities", "logits") and spec.labels else []
    described = {"name": spec.name, "datatype": _OUTPUTS[spec.meaning], "shape": [-1, *width]}
    return {**described, "parameters": {"labels": list(spec.labels)}} if spec.labels else described


def _rows_of(tensor: InputTensor, spec: ColumnSpec, *, field: str) -> list[Any]:
    """Cut the tensor's data, flat or nested, into one value a row."""
    num_rows, width = tensor.shape[0], prod(tensor.shape[1:])
    data: list[Any] = tensor.data
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise errors.InvalidData("expected lists of one depth.", field=f"{field}.data")
        data = [value for part in data for value in part]
    if len(data) != num_rows * width:
        raise errors.InvalidData(
            f"expected {num_rows * width} values for shape {list(tensor.shape)}, found {len(data)}.",
            field=f"{field}.data",
        )
    is_scalar = spec.shape is None and spec.type != "tokens"
    if is_scalar and width != 1:
        raise errors.InvalidData(f"expected one value a row, found shape {list(tensor.shape)}.", field=f"{field}.shape")
    return data if is_scalar else [data[i * width : (i + 1) * width] for i in range(num_rows)]


def _tensor(spec: OutputSpec, values: list[Any]) -> dict[str, Any]:
    """One output; a list per row, or probabilities by label, are laid out row by row."""
    described = {"name": spec.name, "datatype": _OUTPUTS[spec.meaning]}
    if values and isinstance(values[0], Mapping | list):
        flat = [list(row.values()) if isinstance(row, Mapping) else row for row in values]
        return {**described, "shape": [len(flat), len(flat[0])], "data": [value for row in flat for value in row]}
    return {**described, "shape": [len(values)], "data": values}
