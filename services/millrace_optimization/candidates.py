"""Candidates: variants as whole packages, so that what is measured is what would ship."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from millrace.models.ops.base import Array
from millrace.models.package import read_golden, write_package
from millrace.models.predictor import Predictor, load_predictor
from millrace.models.scoring import Scored
from millrace.models.signature import ModelCard, Program
from millrace_optimization.settings import VariantName
from millrace_optimization.variants import build, source_program


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that was built, loaded and scored.

    Attributes:
        directory: A package for serving: the variant's program, featurizers and golden rows, and no weights.
        parity_max_abs: Largest difference of its answers from the golden ones.
    """

    name: VariantName
    card: ModelCard
    directory: Path
    predictor: Predictor
    parity_max_abs: float
    scored: Scored

    @property
    def program(self) -> Program:
        return self.card.programs[0]


def make_candidate(
    name: VariantName,
    card: ModelCard,
    *,
    source: Path,
    directory: Path,
    num_threads: int,
    score_on_validation: Callable[[Predictor], Scored],
) -> Candidate:
    """Build a variant from the package at `source` into a package at `directory`; load, compare and score it.

    Raises:
        Exception: Whatever a toolkit or a runtime raises; the variant has failed then, not the stage.
    """
    program = build(name, source_program(card), source_directory=source, directory=directory)
    for path in (card.golden, *(op.asset for op in card.signature.featurizer if op.asset)):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, directory / path)
    own = card.model_copy(update={"programs": (program,), "weights": ""})
    write_package(directory, own)
    predictor = load_predictor(directory, num_threads=num_threads)
    golden, answers = read_golden(directory)
    return Candidate(
        name=name, card=own, directory=directory, predictor=predictor,
        parity_max_abs=_largest_difference(predictor.predict(golden), answers), scored=score_on_validation(predictor),
    )  # fmt: skip


def _largest_difference(found: pa.RecordBatch, expected: pa.RecordBatch) -> float:
    """Over all columns of numbers, or of lists of numbers."""
    pairs = ((_flat(found.column(name)), _flat(expected.column(name))) for name in expected.schema.names)
    return max(
        (float(np.abs(a - b).max(initial=0.0)) for a, b in pairs if a is not None and b is not None), default=0.0
    )


def _flat(array: pa.Array) -> Array | None:
    if pa.types.is_list(array.type):
        array = array.flatten()
    if not pa.types.is_floating(array.type):
        return None
    values: Array = array.to_numpy(zero_copy_only=False).astype(np.float64)
    return values
