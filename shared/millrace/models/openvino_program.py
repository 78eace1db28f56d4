"""Runs OpenVINO programs on the CPU. The only file that imports openvino to run a model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino as ov

from millrace import errors
from millrace.models.ops.base import Array
from millrace.models.reasons import reason_of


class OpenVinoProgram:
    """A loaded program; safe to call from several threads, each with an inference request of its own.

    Args:
        path: The .xml file; its .bin stands beside it.
        num_threads: Threads of one call.
    """

    def __init__(self, path: Path, *, num_threads: int) -> None:
        # Without the hint, a CPU with AMX computes in bfloat16, and the answers are another model's.
        config = {
            "INFERENCE_NUM_THREADS": num_threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }  # fmt: skip
        try:
            core = ov.Core()
            self._compiled = core.compile_model(core.read_model(path), "CPU", config)
        except Exception as error:  # openvino raises RuntimeError and exceptions of its own
            raise errors.InvalidData(
                f"Program {path.name} cannot be loaded: {reason_of(error)}", remedy="Train the model again."
            ) from error
        self._outputs = [output.get_any_name() for output in self._compiled.outputs]
        self._requests = threading.local()

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The program's outputs by name.

        Raises:
            StageFailed: The runtime refused the tensors.
        """
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        try:
            results = self._requests.request.infer(dict(tensors), share_inputs=True)
        except Exception as error:  # as above
            raise errors.StageFailed(f"The program failed: {reason_of(error)}") from error
        # The request's buffers are overwritten by the next call.
        return {name: np.array(results[i]) for i, name in enumerate(self._outputs)}
