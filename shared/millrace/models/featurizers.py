"""Featurizers: the user's columns to the program's tensors, by one implementation for training and serving.

ops = fit([FeaturizerOp(op="standardize@1", columns=("age", "height"), output="features"),
           FeaturizerOp(op="one_hot@1", columns=("city",), output="features")], train_batches, columns)
tensors = apply(ops, batch)                        # {"features": float32 (rows, 2 + len(cities) + 1)}
signature_ops = save_ops(ops, package_directory)   # the specs with their assets, for the model card
ops = load_ops(card.signature.featurizer, package_directory)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from millrace import errors
from millrace.contracts.schema import Column
from millrace.models.ops.base import Array, Op, State, numbers, strings
from millrace.models.ops.categories import OneHot, Ordinal, codes_of
from millrace.models.ops.ngrams import HashedNgrams
from millrace.models.ops.numeric import ImageScale, Standardize
from millrace.models.ops.tokens import CharTokens
from millrace.models.signature import ColumnSpec, FeaturizerOp, TensorSpec

OPS: dict[str, type[Op]] = {op.kind: op for op in (Standardize, OneHot, Ordinal, ImageScale, HashedNgrams, CharTokens)}

MAX_ASSET_BYTES = 256 * 2**20


def fit(
    specs: Sequence[FeaturizerOp], batches: Iterable[pa.RecordBatch], columns: Sequence[ColumnSpec | Column]
) -> tuple[Op, ...]:
    """Fit all operations in one pass over the training split.

    Args:
        specs: What to fit; several with one output are joined along their second dimension, in this order.
        batches: Batches of the train split only; read once, one in memory at a time.
        columns: Columns of the data, those of the specs among them.

    Raises:
        InvalidSpec: Unknown operation or argument, a column that is absent or of a type the operation does not take.
        InvalidData: There is no row, or a batch does not fit.
    """
    by_name = {c.name: c if isinstance(c, ColumnSpec) else column_spec(c) for c in columns}
    fitters = [_checked(spec, by_name).fitter(spec, [by_name[n] for n in spec.columns]) for spec in specs]
    num_rows = 0
    for batch in batches:
        num_rows += batch.num_rows
        for fitter in fitters:
            fitter.observe(batch)
    if not num_rows:
        raise errors.InvalidData("The training split has no rows.", remedy="Give more data, or a larger train share.")
    return tuple(OPS[spec.op](spec, fitter.finish()) for spec, fitter in zip(specs, fitters, strict=True))


def apply(ops: Sequence[Op], batch: pa.RecordBatch) -> dict[str, Array]:
    """Tensors of a batch by name; the first dimension of each is the batch's rows."""
    parts: dict[str, list[Array]] = {}
    for op in ops:
        parts.setdefault(op.spec.output, []).append(op.apply(batch))
    return {name: made[0] if len(made) == 1 else np.concatenate(made, axis=1) for name, made in parts.items()}


def tensor_specs(ops: Sequence[Op]) -> tuple[TensorSpec, ...]:
    """The tensors that `apply` makes: what the program's inputs must be."""
    specs: dict[str, TensorSpec] = {}
    for tensor in (op.tensor for op in ops):
        first = specs.get(tensor.name)
        if first is None:
            specs[tensor.name] = tensor
            continue
        (rows, *left), (_, *right) = first.shape, tensor.shape
        if first.dtype != tensor.dtype or len(left) != 1 or len(right) != 1:
            raise errors.InvalidSpec(
                f"{first.dtype} {first.shape} and {tensor.dtype} {tensor.shape} cannot be joined into one tensor.",
                field=f"featurizer.{tensor.name}", remedy="Give the operations different outputs.",
            )  # fmt: skip
        width = int(left[0]) + int(right[0])
        specs[tensor.name] = first.model_copy(update={"shape": (rows, width)})
    return tuple(specs.values())


def save_ops(ops: Sequence[Op], directory: Path) -> tuple[FeaturizerOp, ...]:
    """Write the assets to `featurizer/` under the directory; return the specs that name them."""
    (directory / "featurizer").mkdir(parents=True, exist_ok=True)
    specs = []
    for index, op in enumerate(ops):
        if not op.suffix:
            specs.append(op.spec)
            continue
        asset = f"featurizer/{op.kind.partition('@')[0]}-{index}{op.suffix}"
        if op.suffix == ".json":
            (directory / asset).write_text(json.dumps(op.state, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        else:
            save_file({k: np.ascontiguousarray(v) for k, v in op.state.items()}, directory / asset)
        specs.append(op.spec.model_copy(update={"asset": asset}))
    return tuple(specs)


def load_ops(specs: Sequence[FeaturizerOp], directory: Path) -> tuple[Op, ...]:
    """The fitted operations of a package.

    Raises:
        InvalidData: An operation that this version does not know, or an asset that does not fit it.
    """
    return tuple(_load(spec, directory) for spec in specs)


def target_codes(batch: pa.RecordBatch, name: str, labels: Sequence[str]) -> Array:
    """Position of each row's label in the ordered labels, int64 (rows,); -1 where it is null or not among them."""
    return codes_of(strings(batch, name), labels)


def target_values(batch: pa.RecordBatch, name: str) -> Array:
    """A numeric target, float64 (rows,); a missing value is NaN."""
    return numbers(batch, name)[:, 0]


def column_spec(column: Column) -> ColumnSpec:
    """A data set's column as the signature's: what a caller sends."""
    return ColumnSpec(
        name=column.name, type=column.type, nullable=column.nullable, shape=column.shape, vocabulary=column.vocabulary
    )


def _checked(spec: FeaturizerOp, columns: dict[str, ColumnSpec]) -> type[Op]:
    kind = OPS.get(spec.op)
    if kind is None:
        raise errors.InvalidSpec(f"Unknown operation {spec.op!r}; {errors.nearest(spec.op, OPS)}", field="op")
    for name in spec.arguments:
        if name not in kind.defaults:
            raise errors.InvalidSpec(
                f"{spec.op} has no argument {name!r}; {errors.nearest(name, kind.defaults)}", field=f"arguments.{name}"
            )
    for name in spec.columns:
        found = columns.get(name)
        if found is None:
            raise errors.InvalidSpec(f"No column {name!r}; {errors.nearest(name, columns)}", field="columns")
        if found.type not in kind.takes:
            raise errors.InvalidSpec(
                f"{spec.op} takes {', '.join(kind.takes)}; column {name!r} is {found.type}.", field="columns"
            )
    return kind


def _load(spec: FeaturizerOp, directory: Path) -> Op:
    kind = OPS.get(spec.op)
    if kind is None:
        raise errors.InvalidData(
            f"The model uses the operation {spec.op!r}; {errors.nearest(spec.op, OPS)}",
            remedy="Use the version of millrace that made the model, or a newer one.",
        )
    if not kind.suffix:
        return kind(spec, {})
    path = directory / spec.asset
    try:
        if path.stat().st_size > MAX_ASSET_BYTES:
            raise ValueError("larger than an asset may be")
        state: State = load_file(path) if kind.suffix == ".safetensors" else json.loads(path.read_text("utf-8"))
        op = kind(spec, state)
        _ = op.tensor  # a state that lacks a field fails here, not at the first request
    except Exception as error:  # safetensors raises its own; whatever it is, the package is unusable
        raise errors.InvalidData(
            f"Asset {spec.asset!r} of {spec.op} cannot be read: {error}", remedy="Train the model again."
        ) from error
    return op
