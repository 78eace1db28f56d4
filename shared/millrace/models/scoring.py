"""Scoring a model on a split: predict by batches, compare with the target, keep what resampling needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.contracts.schema import ROW_ID
from millrace.models.featurizers import target_codes, target_values
from millrace.models.generator import Generator
from millrace.models.ops.base import Array, column, strings
from millrace.models.ops.tokens import END_OF_TEXT_ID, UNKNOWN_ID
from millrace.models.predictor import Predictor
from millrace.models.scores import Scores, classification_scores, confusion, language_scores, regression_scores

UNKNOWN_CHARACTER_BITS = float(np.log2(0x110000))
"""What naming an unknown character costs beyond saying that it is one: any of Unicode's code points, all alike."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answers on a split.

    Attributes:
        scores: For metrics and intervals; one entry a unit.
        predictions: A row each: row_id, then what the predictor answered, then the truth; of a language model, windows
            with their bits.
        unit: What is scored one by one: rows, or a language model's windows of text.
        labels: Of classification, in the model's order.
        confusion: Counts (C, C): rows by true label, columns by answer.
    """

    task: str
    scores: Scores
    predictions: pa.Table
    unit: Literal["rows", "windows"]
    labels: tuple[str, ...] = ()
    confusion: Array = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


def score(predictor: Predictor, batches: Iterable[pa.RecordBatch], *, target: str, progress: Progress) -> Scored:
    """Score a model on a split.

    Args:
        predictor: The model.
        batches: The split, whole.
        target: Name of the target column; empty for a language model.
        progress: Called with the number of rows done.

    Raises:
        InvalidData: The split is empty, a target is missing, or the batches do not fit the model.
    """
    if isinstance(predictor, Generator):
        return _score_language(predictor, batches, progress)
    answers, targets, done = [], [], 0
    for batch in batches:
        answer = predictor.predict(batch)
        truth = _target(batch, target, first_row=done)
        ids = column(batch, ROW_ID)
        answers.append(answer.add_column(0, ROW_ID, ids))
        targets.append(truth)
        done += batch.num_rows
        progress(done)
    if not answers:
        raise errors.InvalidData("The split has no rows.", remedy="Give more data, or a larger share to this split.")
    table = pa.Table.from_batches(answers)
    truth = pa.chunked_array(targets)
    labels = next((o.labels for o in predictor.card.signature.outputs if o.meaning == "probabilities"), None)
    if labels is None:
        return _regression(predictor.card.task, table, truth)
    return _classification(predictor.card.task, table, truth, tuple(labels))


def _target(batch: pa.RecordBatch, target: str, *, first_row: int) -> pa.Array:
    array = column(batch, target)
    missing = array.is_null(nan_is_null=True)
    if missing.true_count:
        row = first_row + missing.index(True).as_py()
        raise errors.InvalidData(
            f"Row {row} of the split has no {target!r}.", field=target, remedy="Remove rows without a target."
        )
    return array


def _classification(task: str, table: pa.Table, truth: pa.ChunkedArray, labels: tuple[str, ...]) -> Scored:
    rows = pa.RecordBatch.from_arrays([truth.combine_chunks(), table["label"].combine_chunks()], names=["t", "a"])
    truth_N, answers_N = target_codes(rows, "t", labels), target_codes(rows, "a", labels)
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    probabilities_NC = flat.reshape(-1, len(labels)).astype(np.float64)
    return Scored(
        task=task, scores=classification_scores(truth_N, probabilities_NC, answers_N),
        predictions=table.append_column("target", strings(rows, "t")),
        unit="rows", labels=labels,
        confusion=confusion(truth_N, answers_N, num_classes=len(labels)),
    )  # fmt: skip


def _regression(task: str, table: pa.Table, truth: pa.ChunkedArray) -> Scored:
    values = table[table.column_names[1]].to_numpy()
    truth_N = target_values(pa.RecordBatch.from_arrays([truth.combine_chunks()], names=["t"]), "t")
    predictions = table.append_column("target", truth)
    return Scored(task=task, scores=regression_scores(truth_N, values), predictions=predictions, unit="rows")


def _score_language(generator: Generator, batches: Iterable[pa.RecordBatch], progress: Progress) -> Scored:
    """Cost of each text in windows; a character sees at least half a context before it, or the text's beginning."""
    name = generator.card.signature.columns[0].name
    ids: list[str] = []
    bits: list[float] = []
    characters: list[int] = []
    done = 0
    for batch in batches:
        texts = strings(batch, name).to_pylist()
        for row_id, text in zip(column(batch, ROW_ID).to_pylist(), texts, strict=True):
            for cost, count in _windows(generator, text or ""):
                ids.append(row_id)
                bits.append(cost)
                characters.append(count)
        done += batch.num_rows
        progress(done)
    if not bits:
        raise errors.InvalidData("The split has no text.", remedy="Give more data, or a larger share to this split.")
    table = pa.table({ROW_ID: ids, "characters": characters, "bits": bits})
    scores = language_scores(np.array(bits), np.array(characters))
    return Scored(task=generator.card.task, scores=scores, predictions=table, unit="windows")


def _windows(generator: Generator, text: str) -> Iterable[tuple[float, int]]:
    """(bits, characters) of each window of a text: the first scores a whole context, each later one the half it adds."""
    tokens = np.concatenate([[END_OF_TEXT_ID], generator.tokenizer.encode(text)])
    length = generator.max_context
    step = max(length // 2, 1)
    scored = 1  # the end-of-text in front is given, not scored
    while scored < len(tokens):
        stop = min(len(tokens), length + 1 if scored == 1 else scored + step)
        begin = max(stop - length - 1, 0)
        logits_TV = generator.prefill(tokens[None, begin : stop - 1])[0][0]
        new_V, truth = logits_TV[scored - 1 - begin :], tokens[scored:stop]
        yield float(_bits(new_V, truth).sum()), stop - scored
        scored = stop


def _bits(logits_TV: Array, truth_T: Array) -> Array:
    logits = logits_TV.astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    log_total = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    bits = (log_total - logits[np.arange(len(truth_T)), truth_T]) / np.log(2)
    cost: Array = bits + np.where(truth_T == UNKNOWN_ID, UNKNOWN_CHARACTER_BITS, 0.0)
    return cost
