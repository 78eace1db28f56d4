"""Texts that are too short or too long."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.judging import Judge
from millrace_cleaning.steps.text.settings import LengthConfig
from millrace_cleaning.steps.text.words import IS_SYMBOL, split_of


def apply(batch: pa.RecordBatch, config: LengthConfig, scratch: Scratch) -> Outcome:
    """Remove texts outside of the limits, in characters, words or bytes."""
    split = split_of(batch.column(config.column), scratch.memo)
    judge = Judge(config.column, split.texts.valid)
    judge.at_least("min_chars", split.chars, config.min_chars)
    judge.at_most("max_chars", split.chars, config.max_chars)
    if config.min_words is not None or config.max_words is not None:
        is_plain = split.word_marks & np.uint32(IS_SYMBOL) == 0
        before = np.concatenate([[0], np.cumsum(is_plain)])[split.word_starts]
        judge.at_least("min_words", np.diff(before), config.min_words)
        judge.at_most("max_words", np.diff(before), config.max_words)
    num_bytes = np.diff(split.texts.offsets)
    judge.at_least("min_bytes", num_bytes, config.min_bytes)
    judge.at_most("max_bytes", num_bytes, config.max_bytes)
    return Outcome(batch, judge.findings)
