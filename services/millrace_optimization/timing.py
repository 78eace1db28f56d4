"""Timing variants one call each in turn, so that whatever slows the host slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millrace.models.generator import Generator
from millrace.models.ops.base import Array
from millrace.models.ops.tokens import END_OF_TEXT_ID
from millrace.models.predictor import Predictor
from millrace.models.program import Executable
from millrace.models.table_predictor import TablePredictor

NUM_WARM_CALLS = 5
"""The first calls of a runtime compile kernels and allocate."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call: median, and the quartiles as its spread."""

    p50_ms: float
    p25_ms: float
    p75_ms: float


def measure_latencies(
    predictors: Mapping[str, Predictor], row: pa.RecordBatch, *, num_repeats: int
) -> dict[str, Latency]:
    """Time each program on one row, without featurizers, which all variants share.

    Args:
        predictors: By variant, each with its program loaded.
        row: One row; a language model makes one token behind half a context instead.
        num_repeats: Timed calls of each.
    """
    calls = {name: (_executable(p), _one_row(p, row)) for name, p in predictors.items()}
    for executable, tensors in calls.values():
        for _ in range(NUM_WARM_CALLS):
            executable.run(tensors)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_repeats):
        for name, (executable, tensors) in calls.items():
            start = time.perf_counter()
            executable.run(tensors)
            seconds[name].append(time.perf_counter() - start)
    return {name: _latency(taken) for name, taken in seconds.items()}


def _executable(predictor: Predictor) -> Executable:
    assert isinstance(predictor, TablePredictor | Generator)
    return predictor.executable


def _one_row(predictor: Predictor, row: pa.RecordBatch) -> dict[str, Array]:
    if isinstance(predictor, TablePredictor):
        return predictor.tensors(row)
    assert isinstance(predictor, Generator)
    before = np.full((1, max(predictor.max_context // 2, 1)), END_OF_TEXT_ID, dtype=np.int64)
    _, cache = predictor.prefill(before)
    return {"tokens": before[:, :1], "cache": cache}


def _latency(seconds: list[float]) -> Latency:
    p25, p50, p75 = (1000 * q for q in statistics.quantiles(seconds, n=4))
    return Latency(p50_ms=p50, p25_ms=p25, p75_ms=p75)
