"""The predictor of tables, images and texts: a program with its featurizers, one answer a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.models.featurizers import apply, load_ops
from millrace.models.ops.base import Array
from millrace.models.program import Executable
from millrace.models.rows import check_batch
from millrace.models.signature import ModelCard, OutputSpec


class TablePredictor:
    """Answers rows one by one: classification and regression.

    The program's first output is `logits` or `probabilities` (batch, classes), or the value (batch,) or (batch, 1).
    """

    def __init__(self, card: ModelCard, directory: Path, executable: Executable) -> None:
        self.card = card
        self._ops = load_ops(card.signature.featurizer, directory)
        self.executable = executable
        self._output = card.signature.program_outputs[0].name

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        check_batch(batch, self.card.signature)
        answers = {o.meaning: o for o in self.card.signature.outputs}
        raw = self.raw(batch)
        wrong = ~np.isfinite(raw).all(axis=tuple(range(1, raw.ndim)))
        if wrong.any():
            raise errors.StageFailed(
                f"The model's answer to row {int(np.flatnonzero(wrong)[0])} is not a finite number.",
                remedy="Train the model again, with a lower learning rate.",
            )
        if "probabilities" in answers:
            return self._classes(raw, answers["probabilities"], answers.get("label"))
        values = pa.array(raw.reshape(len(raw)).astype(np.float64))
        return pa.RecordBatch.from_arrays([values], names=[self.card.signature.outputs[0].name])

    def raw(self, batch: pa.RecordBatch) -> Array:
        """The program's first output, (rows, ...)."""
        if not batch.num_rows:
            dims = [d for d in self.card.signature.program_outputs[0].shape[1:] if isinstance(d, int)]
            return np.zeros((0, *dims), dtype=np.float32)
        return self.executable.run(self.tensors(batch))[self._output]

    def tensors(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """The program's inputs."""
        made = apply(self._ops, batch)
        return {spec.name: made[spec.name] for spec in self.card.signature.program_inputs}

    def _classes(self, raw: Array, spec: OutputSpec, label: OutputSpec | None) -> pa.RecordBatch:
        probabilities = softmax(raw) if self._output == "logits" else raw
        labels = spec.labels or ()
        choice = probabilities.argmax(axis=1) if len(raw) else np.zeros(0, dtype=np.int64)
        if len(labels) == 2 and spec.threshold is not None:
            choice = (probabilities[:, 1] >= spec.threshold).astype(np.int64)
        flat = pa.array(probabilities.astype(np.float32).ravel())
        offsets = pa.array(np.arange(len(raw) + 1, dtype=np.int32) * len(labels))
        chosen = pa.array(labels, pa.string()).take(pa.array(choice))
        return pa.RecordBatch.from_arrays(
            [chosen, pa.ListArray.from_arrays(offsets, flat)], names=[label.name if label else "label", spec.name]
        )


def softmax(logits: Array) -> Array:
    """Probabilities over the last dimension, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    total: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return total
