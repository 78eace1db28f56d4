"""Model packages of a few hundred bytes, whose answers a test can compute in its head. Real ONNX, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import Verdict
from millrace.models.featurizers import fit, save_ops
from millrace.models.package import model_meta, package_files, program_at, read_card, write_golden, write_package
from millrace.models.predictor import load_predictor
from millrace.models.report import ReportMeta
from millrace.models.signature import ColumnSpec, FeaturizerOp, ModelCard, OutputSpec, Signature, TensorSpec
from millrace.store import Store
from millrace.store.artifacts import write_manifest

LABELS = ("minus", "plus")
_OPSET = 20


def write_regression(directory: Path, *, scale: float = 1.0) -> Path:
    """A model that answers value = scale * x + bonus (0 where it is missing), exactly, for |x|, |bonus| < 10,000."""
    weights = np.array([[scale], [1.0]], dtype=np.float32)
    return _write_table(
        directory, "tabular_regression", weights, outputs=(OutputSpec(name="value", meaning="value"),), program="value"
    )


def write_classifier(directory: Path) -> Path:
    """A model that answers `plus` where x + bonus > 0, else `minus`."""
    weights = np.array([[-1.0, 1.0], [-1.0, 1.0]], dtype=np.float32)
    outputs = (
        OutputSpec(name="label", meaning="label", labels=LABELS),
        OutputSpec(name="probabilities", meaning="probabilities", labels=LABELS),
    )
    return _write_table(directory, "tabular_classification", weights, outputs=outputs, program="logits")


def write_generator(directory: Path, *, alphabet: str = "abc") -> Path:
    """A language model that always continues with the alphabet's next letter: `ca` after `b`."""
    batch = pa.record_batch({"text": [alphabet] * 16})
    columns = (ColumnSpec(name="text", type="text"),)
    ops = fit([FeaturizerOp(op="char_tokens@1", columns=("text",), output="tokens")], [batch], columns)
    featurizer = save_ops(ops, directory)
    size = len(alphabet) + 2
    table = np.zeros((size, size), dtype=np.float32)
    for token in range(2, size):
        table[token, 2 + (token - 1) % len(alphabet)] = 20.0
    table[:2, 2] = 20.0
    _save(directory, _bigram_graph(table))
    tokens = TensorSpec(name="tokens", dtype="int64", shape=("batch", "time"))
    cache = TensorSpec(name="cache", dtype="float32", shape=(1, 2, "batch", 1, "past", 1))
    signature = Signature(
        columns=columns,
        outputs=(OutputSpec(name="logits", meaning="logits"),),
        program_inputs=(tokens, cache),
        program_outputs=(
            TensorSpec(name="logits", dtype="float32", shape=("batch", "time", size)),
            TensorSpec(name="cache_out", dtype="float32", shape=(1, 2, "batch", 1, "total", 1)),
        ),
        featurizer=featurizer,
    )
    return _finish(directory, "language_modelling", signature, batch, arguments={"max_context": 32})


def store_model(store: Store, directory: Path) -> ArtifactRef:
    """Put a package into the store."""
    return write_manifest(store, "model", package_files(directory), meta=model_meta(read_card(directory)))


def store_report(store: Store, model: ArtifactRef, *, verdict: Verdict = "passed") -> ArtifactRef:
    """A report's manifest about a model, as the evaluation writes it."""
    meta = ReportMeta(model=model.digest, dataset="0" * 64, split="test", split_digest="1" * 64, verdict=verdict)
    return write_manifest(store, "report", {"report.json": b"{}"}, meta=meta.model_dump(mode="json"))


def _write_table(
    directory: Path, task: str, weights: np.ndarray[Any, Any], *, outputs: Sequence[OutputSpec], program: str
) -> Path:
    # Mean 0 and deviation 1, so that standardizing changes nothing.
    train = pa.record_batch({"x": [-1.0, 1.0], "bonus": pa.array([-1, 1], pa.int64())})
    columns = (ColumnSpec(name="x", type="number"), ColumnSpec(name="bonus", type="integer", nullable=True))
    ops = fit([FeaturizerOp(op="standardize@1", columns=("x", "bonus"), output="features")], [train], columns)
    featurizer = save_ops(ops, directory)
    _save(directory, _linear_graph(weights, program))
    width = weights.shape[1]
    signature = Signature(
        columns=columns,
        outputs=tuple(outputs),
        program_inputs=(TensorSpec(name="features", dtype="float32", shape=("batch", 2)),),
        program_outputs=(TensorSpec(name=program, dtype="float32", shape=("batch", width)),),
        featurizer=featurizer,
    )
    golden = pa.record_batch({"x": [float(i) for i in range(16)], "bonus": pa.array([0] * 15 + [None], pa.int64())})
    return _finish(directory, task, signature, golden, arguments={})


def _finish(
    directory: Path, task: str, signature: Signature, golden: pa.RecordBatch, *, arguments: dict[str, Any]
) -> Path:
    card = ModelCard(
        task=task,
        architecture="tiny@1",
        arguments=arguments,
        num_parameters=2,
        flops_per_example=4,
        programs=(program_at(directory, "programs/fp32.onnx", format="onnx", opset=_OPSET),),
        signature=signature,
        weights="",
    )
    write_package(directory, card)
    write_golden(directory, golden, load_predictor(directory).predict(golden))
    return directory


def _linear_graph(weights: np.ndarray[Any, Any], output: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], [output])],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )


def _bigram_graph(table: np.ndarray[Any, Any]) -> onnx.GraphProto:
    """Logits are a row of the table; the cache grows by one zero a token, as a real one grows by a key and a value."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["logits"], axis=0),
        helper.make_node("Cast", ["tokens"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "axes"], ["grown"]),
        helper.make_node("Concat", ["grown", "grown"], ["both"], axis=1),
        helper.make_node("Concat", ["cache", "both"], ["cache_out"], axis=4),
    ]
    return helper.make_graph(
        nodes,
        "bigram",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"]),
            helper.make_tensor_value_info("cache", TensorProto.FLOAT, [1, 2, "batch", 1, "past", 1]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", table.shape[1]]),
            helper.make_tensor_value_info("cache_out", TensorProto.FLOAT, [1, 2, "batch", 1, "total", 1]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([0, 1, 3, 5], dtype=np.int64), "axes"),
        ],
    )


def _save(directory: Path, graph: onnx.GraphProto) -> None:
    (directory / "programs").mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, directory / "programs" / "fp32.onnx")
