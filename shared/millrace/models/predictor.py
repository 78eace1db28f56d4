"""Predictors: a loaded model, from the user's columns to answers with meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa

from millrace.models.generator import Generator
from millrace.models.package import read_card
from millrace.models.program import choose_program, open_program
from millrace.models.signature import ModelCard
from millrace.models.table_predictor import TablePredictor


class Predictor(Protocol):
    """A loaded model. Safe to call from several threads."""

    card: ModelCard

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Answer every row, in order.

        Classification answers `label` (string) and `probabilities` (list<float>, in the order of the labels);
        regression answers `value` (double); a language model answers `logits` (list<float>) of the token that follows.

        Raises:
            InvalidData: The batch does not fit the signature; names the column and the row.
        """


def load_predictor(directory: Path, *, program: str = "", num_threads: int = 1) -> Predictor:
    """Load a model package.

    Args:
        directory: The package.
        program: Path of the program to run, as in the card; the card's first if empty.
        num_threads: Threads of one call.

    Raises:
        InvalidData: The package is broken.
        InvalidInput: It has no portable program, or its runtime is not installed.
    """
    card = read_card(directory)
    executable = open_program(directory, choose_program(card, program), num_threads=num_threads)
    if card.task == "language_modelling":
        return Generator(card, directory, executable)
    return TablePredictor(card, directory, executable)
