"""A classifier large enough to quantize, whose accuracy a test sets, and the data set that it is right about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.schema import Column, DatasetSchema
from millrace.models.featurizers import fit, save_ops
from millrace.models.package import program_at, write_golden, write_package
from millrace.models.predictor import load_predictor
from millrace.models.signature import ColumnSpec, FeaturizerOp, ModelCard, OutputSpec, Signature, TensorSpec
from millrace.store import Store
from training_data import write_dataset

NAMES = tuple(f"x{i}" for i in range(8))
LABELS = ("ant", "bee", "cat")
WIDTH = 64
COLUMNS = tuple(ColumnSpec(name=n, type="number") for n in NAMES)
SCHEMA = DatasetSchema(
    columns=(*(Column(name=n, type="number") for n in NAMES),
             Column(name="label", type="category", role="target", vocabulary=LABELS)),
    task="tabular_classification",
)  # fmt: skip
_TRUE_WEIGHTS = np.random.default_rng(7).normal(size=(8, 3)).astype(np.float32)


def rows(num_rows: int, *, seed: int, wrong: int = 0) -> pa.Table:
    """Rows whose label is what the classifier answers, except in the first `wrong` of them."""
    x = np.random.default_rng(seed).normal(size=(num_rows, 8)).astype(np.float32)
    codes = (x @ _TRUE_WEIGHTS).argmax(axis=1)
    codes[:wrong] = (codes[:wrong] + 1) % 3
    columns = {n: pa.array(x[:, i].astype(np.float64)) for i, n in enumerate(NAMES)}
    return pa.table({**columns, "label": pa.array(LABELS).take(pa.array(codes))})


def store_dataset(store: Store, *, wrong: int = 10) -> ArtifactRef:
    """200 rows of each held-out split, `wrong` of them mislabelled."""
    splits = {
        "train": rows(50, seed=1),
        "validation": rows(200, seed=2, wrong=wrong),
        "test": rows(200, seed=3, wrong=wrong),
    }
    return write_dataset(store, SCHEMA, splits)  # type: ignore[arg-type]  # mypy widens the literal keys


def write_mlp(directory: Path, *, noise: float = 0.0) -> Path:
    """An 8-64-64-3 network that answers argmax(x @ W), with noise of that deviation on W."""
    train = rows(50, seed=1).to_batches()
    specs = [FeaturizerOp(op="standardize@1", columns=NAMES, output="features")]
    ops = fit(specs, train, COLUMNS)
    graph = _graph(ops[0].state, noise)
    (directory / "programs").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, directory / "programs/fp32.onnx")
    card = ModelCard(
        task="tabular_classification", architecture="tiny@1", arguments={}, num_parameters=4000, flops_per_example=8000,
        programs=(program_at(directory, "programs/fp32.onnx", format="onnx", opset=18),),
        signature=Signature(
            columns=COLUMNS,
            outputs=(OutputSpec(name="label", meaning="label", labels=LABELS),
                     OutputSpec(name="probabilities", meaning="probabilities", labels=LABELS)),
            program_inputs=(TensorSpec(name="features", dtype="float32", shape=("batch", 8)),),
            program_outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 3)),),
            featurizer=save_ops(ops, directory),
        ),
    )  # fmt: skip
    write_package(directory, card, weights={"w": np.zeros((4, 4), dtype=np.float32)})
    golden = rows(16, seed=4).select(list(NAMES)).to_batches()[0]
    write_golden(directory, golden, load_predictor(directory).predict(golden))
    return directory


def _graph(state: dict[str, npt.NDArray[np.float64]], noise: float) -> onnx.GraphProto:
    """relu of (x, -x, random) and then a readout that undoes it: exact in float32, and worth rounding."""
    random = np.random.default_rng(5)
    first = np.concatenate([np.eye(8), -np.eye(8), random.normal(size=(8, WIDTH - 16))], axis=1)
    second = np.eye(WIDTH)
    # The program reads standardized features; labels were made from raw ones.
    true = (_TRUE_WEIGHTS + noise * random.normal(size=(8, 3))) * state["deviation"][:, None]
    third = np.concatenate([true, -true, np.zeros((WIDTH - 16, 3))])
    constants = {"w1": first, "w2": second, "w3": third, "b3": state["mean"] @ _TRUE_WEIGHTS}
    nodes = [
        helper.make_node("MatMul", ["features", "w1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["r2"]),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["logits"]),
    ]
    return helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
