"""`standardize@1` for numbers, `image_scale@1` for images stored as raw arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.models.ops.base import Array, Fitter, Op, State, column, numbers
from millrace.models.signature import ColumnSpec, FeaturizerOp, TensorSpec

MAX_DEVIATIONS = 1e4
"""Standardized values are clipped here: a number far outside the training data must not become an infinite float32."""


class Standardize(Op):
    """(x - mean) / deviation by the training split; a missing value becomes the mean.

    Arguments:
        missing_indicator: Append a 0/1 column for each input that had missing values in training.
    """

    kind = "standardize@1"
    suffix = ".safetensors"
    takes = ("number", "integer", "boolean", "timestamp", "vector")
    defaults: ClassVar[dict[str, Any]] = {"missing_indicator": False}

    @classmethod
    def fitter(cls, spec: FeaturizerOp, columns: Sequence[ColumnSpec]) -> Fitter:  # noqa: ARG003 - one shape for all
        return _Moments(spec)

    def apply(self, batch: pa.RecordBatch) -> Array:
        values = np.concatenate([numbers(batch, name) for name in self.spec.columns], axis=1)
        mean, deviation, indicated = (self.state[k] for k in ("mean", "deviation", "indicated"))
        if values.shape[1] != len(mean):
            raise errors.InvalidData(
                f"Columns {', '.join(self.spec.columns)} hold {values.shape[1]} numbers a row, expected {len(mean)}.",
                field=self.spec.columns[0], remedy="Send vectors of the length that the model was trained on.",
            )  # fmt: skip
        missing = np.isnan(values)
        scaled = np.where(missing, 0.0, (values - mean) / deviation).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return np.concatenate([scaled, missing[:, indicated]], axis=1).astype(np.float32)

    @property
    def tensor(self) -> TensorSpec:
        width = len(self.state["mean"]) + len(self.state["indicated"])
        return TensorSpec(name=self.spec.output, dtype="float32", shape=("batch", width))


class _Moments:
    """Count, mean and squared deviations, merged batch by batch (Chan, Golub and LeVeque 1983)."""

    def __init__(self, spec: FeaturizerOp) -> None:
        self.spec = spec
        self.count: Array = np.zeros(0)
        self.mean: Array = np.zeros(0)
        self.squares: Array = np.zeros(0)
        self.num_rows = 0

    def observe(self, batch: pa.RecordBatch) -> None:
        values = np.concatenate([numbers(batch, name) for name in self.spec.columns], axis=1)
        if not self.num_rows:
            self.count, self.mean, self.squares = (np.zeros(values.shape[1]) for _ in range(3))
        present = ~np.isnan(values)
        count = present.sum(axis=0)
        safe = np.maximum(count, 1)
        mean = np.where(present, values, 0.0).sum(axis=0) / safe
        squares = np.where(present, (values - mean) ** 2, 0.0).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        shift = mean - self.mean
        self.mean = self.mean + shift * count / total
        self.squares = self.squares + squares + shift**2 * self.count * count / total
        self.count = self.count + count
        self.num_rows += batch.num_rows

    def finish(self) -> State:
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        # Rounding leaves a constant column a tiny deviation; dividing by it would make noise of it.
        tiny = deviation <= 1e-12 * np.maximum(np.abs(self.mean), 1.0)
        indicated = np.flatnonzero(self.count < self.num_rows)
        if not self.spec.arguments.get("missing_indicator", False):
            indicated = indicated[:0]
        return {
            "mean": self.mean,
            "deviation": np.where(tiny, 1.0, deviation),
            "indicated": indicated.astype(np.int64),
        }


class ImageScale(Op):
    """An image stored as a raw array, scaled to 0..1 by the training split's range.

    Arguments:
        shape: (height, width, channels) of the array; the column's own shape if absent.
        layout: `flat` gives (rows, height * width * channels), `nhwc` and `nchw` give images.
    """

    kind = "image_scale@1"
    suffix = ".safetensors"
    takes = ("image", "vector")
    defaults: ClassVar[dict[str, Any]] = {"layout": "flat", "shape": None}

    @classmethod
    def fitter(cls, spec: FeaturizerOp, columns: Sequence[ColumnSpec]) -> Fitter:
        if len(columns) != 1:
            raise errors.InvalidSpec(f"image_scale@1 takes one column, got {len(columns)}.", field="columns")
        shape = spec.arguments.get("shape") or columns[0].shape
        if spec.arguments.get("layout", "flat") != "flat" and (shape is None or len(shape) != 3):
            raise errors.InvalidSpec(
                f"Column {columns[0].name!r} has the shape {shape}, expected (height, width, channels).",
                field="shape", remedy="Give the column three dimensions, or use the layout `flat`.",
            )  # fmt: skip
        return _Range(columns[0].name, shape)

    def apply(self, batch: pa.RecordBatch) -> Array:
        pixels = _pixels(batch, self.spec.columns[0])
        shape = tuple(int(n) for n in self.state["shape"])
        if pixels.shape[1] != math.prod(shape):
            raise errors.InvalidData(
                f"Column {self.spec.columns[0]!r} holds {pixels.shape[1]} numbers a row, expected {math.prod(shape)}.",
                field=self.spec.columns[0], remedy="Send images of the size that the model was trained on.",
            )  # fmt: skip
        low, high = self.state["range"]
        scaled: Array = ((pixels - low) / (high - low)).astype(np.float32)
        if self.arguments["layout"] == "flat":
            return scaled
        images = scaled.reshape(-1, *shape)
        return images if self.arguments["layout"] == "nhwc" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    @property
    def tensor(self) -> TensorSpec:
        shape = tuple(int(n) for n in self.state["shape"])
        if self.arguments["layout"] == "flat":
            dims: tuple[int, ...] = (math.prod(shape),)
        else:
            dims = shape if self.arguments["layout"] == "nhwc" else (shape[2], shape[0], shape[1])
        return TensorSpec(name=self.spec.output, dtype="float32", shape=("batch", *dims))


class _Range:
    def __init__(self, name: str, shape: Sequence[int] | None) -> None:
        self.name = name
        self.shape = tuple(shape) if shape else None
        self.low, self.high = math.inf, -math.inf

    def observe(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            pixels = _pixels(batch, self.name)
            self.shape = self.shape or (pixels.shape[1],)
            self.low, self.high = min(self.low, float(pixels.min())), max(self.high, float(pixels.max()))

    def finish(self) -> State:
        high = self.high if self.high > self.low else self.low + 1.0
        return {"range": np.array([self.low, high]), "shape": np.array(self.shape or (0,), dtype=np.int64)}


def _pixels(batch: pa.RecordBatch, name: str) -> Array:
    if pa.types.is_struct(column(batch, name).type):
        raise errors.InvalidData(
            f"Column {name!r} holds encoded images (PNG, JPEG); this version reads raw arrays only.",
            field=name, remedy="Decode the images to arrays of one shape before cleaning.",
        )  # fmt: skip
    values = numbers(batch, name)
    if np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values).any(axis=1))[0])
        raise errors.InvalidData(
            f"Column {name!r} has a missing pixel in row {row}.", field=name, remedy="Send whole images."
        )
    return values
