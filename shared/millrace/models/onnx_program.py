"""Runs ONNX programs by ONNX Runtime on the CPU. The only file that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from millrace import errors
from millrace.models.ops.base import Array
from millrace.models.reasons import reason_of


class OnnxProgram:
    """A loaded program; safe to call from several threads.

    Args:
        path: The .onnx file.
        num_threads: Threads of one call.
    """

    def __init__(self, path: Path, *, num_threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads that spin take the core of whoever works beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Constants stored in int8 are widened once, at load, not in every call.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise errors.InvalidData(
                f"Program {path.name} cannot be loaded: {reason_of(error)}", remedy="Train the model again."
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The program's outputs by name.

        Raises:
            StageFailed: The runtime refused the tensors.
        """
        try:
            values = self._session.run(None, dict(tensors))
        except Exception as error:  # as above
            raise errors.StageFailed(f"The program failed: {reason_of(error)}") from error
        return dict(zip(self._outputs, values, strict=True))
