"""From a trained module to its portable program, compared with the module before anyone relies on it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from millrace import errors
from millrace.architectures.base import Architecture
from millrace.models.onnx_program import OnnxProgram
from millrace.models.signature import TensorSpec

OPSET = 18
"""LayerNormalization and everything attention needs; old enough for every runtime that we serve with."""
TOLERANCE = 1e-3
"""Largest difference allowed, as a share of the largest answer (or of 1): float32 sums in another order differ by 1e-5."""


def export_onnx(model: Architecture, path: Path, *, cases: Sequence[tuple[Tensor, ...]]) -> float:
    """Write the program and check it against the module.

    torch's TorchScript exporter, though deprecated: it takes 0.1 s where the newer one takes 3.3 s and another second of
    imports, and torch is pinned. Both give the same graph for our modules.

    Args:
        model: In evaluation mode, on the CPU.
        path: Where the `.onnx` file goes.
        cases: Inputs of different sizes in every dimension that varies; the first is traced.

    Returns:
        The largest difference between the program's and the module's answers over all cases.

    Raises:
        StageFailed: They differ by more than TOLERANCE.
    """
    axes = {
        port.name: {i: d for i, d in enumerate(port.shape) if isinstance(d, str)}
        for port in (*model.inputs, *model.outputs)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation, and the tracer's about shapes: the cases prove those
        torch.onnx.export(
            model, cases[0], path, dynamo=False, opset_version=OPSET, dynamic_axes=axes, do_constant_folding=True,
            input_names=[p.name for p in model.inputs], output_names=[p.name for p in model.outputs],
        )  # fmt: skip
    program = OnnxProgram(path, num_threads=1)
    return max(_difference(model, program, case) for case in cases)


def tensor_specs(model: Architecture) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The program's inputs and outputs as the model card says them."""
    inputs, outputs = (
        tuple(TensorSpec(name=p.name, dtype=p.dtype, shape=p.shape) for p in ports)
        for ports in (model.inputs, model.outputs)
    )
    return inputs, outputs


@torch.no_grad()
def _difference(model: Architecture, program: OnnxProgram, case: tuple[Tensor, ...]) -> float:
    expected = model(*case)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = program.run({port.name: value.numpy() for port, value in zip(model.inputs, case, strict=True)})
    worst = 0.0
    for port, tensor in zip(model.outputs, expected, strict=True):
        difference = float(np.abs(found[port.name] - tensor.numpy()).max(initial=0.0))
        allowed = TOLERANCE * max(1.0, float(tensor.abs().max()))
        if not difference <= allowed:
            raise errors.StageFailed(
                f"The exported program's {port.name!r} differs from the model's by {difference:.2g}; at most "
                f"{allowed:.2g} is allowed.",
                remedy="Report this with the architecture and its arguments; no model was stored.",
            )
        worst = max(worst, difference)
    return worst
