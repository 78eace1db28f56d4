"""Proving a candidate without traffic: it answers its golden rows as it did when it was made, and a sample request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace import errors
from millrace.models.generator import Generator
from millrace.models.predictor import Predictor
from millrace.models.rows import from_batch, to_batch

Made = TypeVar("Made")

TOLERANCES: dict[str, tuple[float, float]] = {
    "fp32": (1e-3, 1.0), "fp16": (1e-2, 1.0), "bf16": (5e-2, 1.0), "int8": (0.2, 0.9),
}  # fmt: skip
"""By precision: how far an answer may lie from the fp32 program's, in units of the answers' size or of probability,
and what share of the golden rows must keep within. Quantized kernels differ between CPUs, so one row in ten may stray:
how well the variant does was judged on the whole split."""

NUM_TIMED = 50
MAX_TIMED_S = 2.0
NUM_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Golden:
    """How the replay went: the largest difference, the tolerance, the share of rows within it."""

    num_rows: int
    max_difference: float
    tolerance: float
    share_within: float


def replay(predictor: Predictor, rows: pa.RecordBatch, expected: pa.RecordBatch) -> Golden:
    """Answer the golden rows and compare.

    Raises:
        InvalidData: The answers lie further from the recorded ones than the program's precision explains.
    """
    precision = predictor.card.programs[0].precision
    tolerance, share = TOLERANCES[precision]
    distances = row_distances(predictor.predict(rows), expected)
    within = float(np.mean(distances <= tolerance))
    golden = Golden(len(distances), float(distances.max()), tolerance, within)
    if within < share:
        raise errors.InvalidData(
            f"The model answers {len(distances) - round(within * len(distances))} of its {len(distances)} golden rows "
            f"differently here than when it was made: by {golden.max_difference:.3g}, where {precision} explains "
            f"{tolerance:g}.",
            field="model", remedy="Deploy on the kind of machine it was made on, or run `optimize` again here.",
        )  # fmt: skip
    return golden


def row_distances(answers: pa.RecordBatch, expected: pa.RecordBatch) -> npt.NDArray[np.float64]:
    """The largest difference of each row over all numeric outputs, relative to the outputs' size where that exceeds 1."""
    if answers.num_rows != expected.num_rows or answers.num_rows == 0:
        raise errors.InvalidData(
            f"expected {expected.num_rows} answers to the golden rows, found {answers.num_rows}.", field="golden"
        )
    distances = np.zeros(answers.num_rows)
    for name in expected.schema.names:
        index = answers.schema.get_field_index(name)
        if index < 0:
            raise errors.InvalidData(f"The model does not answer {name!r}, which its golden rows have.", field="golden")
        found, wanted = _matrix(answers.column(index)), _matrix(expected.column(name))
        if found is None or wanted is None:
            continue  # labels follow from probabilities, and may flip where two of those are equal
        if found.shape != wanted.shape:
            raise errors.InvalidData(f"expected {name!r} of shape {wanted.shape}, found {found.shape}.", field="golden")
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        distances = np.maximum(distances, np.abs(found - wanted).max(axis=1, initial=0.0) / scale)
    return distances


def shortest_row(rows: pa.RecordBatch) -> dict[str, Any]:
    """The golden row that is shortest as JSON: a sample request that people can read."""
    candidates = [{name: _json(value) for name, value in row.items()} for row in rows.to_pylist()]
    return min(candidates, key=lambda row: len(json.dumps(row)))


def answer(predictor: Predictor, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the endpoint will answer to these rows. Raises InvalidData with row and column."""
    signature = predictor.card.signature
    return from_batch(predictor.predict(to_batch(rows, signature)), signature)


def generate(generator: Generator, prompt: str, *, seed: int) -> str:
    """Continue the prompt.

    Raises:
        StageFailed: Nothing came.
    """
    pieces = generator.generate(prompt, max_tokens=NUM_TOKENS, temperature=0.8, top_k=0, seed=seed)
    text = "".join(pieces)
    if not text:
        raise errors.StageFailed(
            f"The model had nothing to say after {prompt[:60]!r}.", remedy="Set another `prompt`, or train for longer."
        )
    return text


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of one call, p50 and p99 over some dozens of calls or two seconds, after one that warms up."""
    call()
    samples: list[float] = []
    deadline = time.perf_counter() + MAX_TIMED_S
    while len(samples) < NUM_TIMED and (not samples or time.perf_counter() < deadline):
        begin = time.perf_counter()
        call()
        samples.append((time.perf_counter() - begin) * 1000)
    return {"p50": round(float(np.median(samples)), 3), "p99": round(float(np.quantile(samples, 0.99)), 3)}


def within(timeout_s: float, work: Callable[[], Made]) -> Made:
    """Return what work returns, or give up on it: the thread goes with the attempt's process.

    Raises:
        TimedOut: It took longer.
    """
    made: list[Made] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="proof", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failures:
        raise failures[0]
    if not made:
        raise errors.TimedOut(
            f"The model was not ready within {timeout_s:g} s.", field="with.ready_timeout_s",
            remedy="Raise `ready_timeout_s`, or serve a smaller variant.",
        )  # fmt: skip
    return made[0]


def _matrix(array: pa.Array) -> npt.NDArray[np.float64] | None:
    """Numbers as (rows, width); None for anything else."""
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)[:, None]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.array(array.to_pylist(), dtype=np.float64)
    return None


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
