"""Which language a text is in: py3langid's model, walked by a kernel over a sample of each row's bytes.

The model's tables are used, and its arithmetic, as float32; on a text that fits into the sample the answer is py3langid's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from millrace import errors
from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.buffers import Texts, texts_of
from millrace_cleaning.steps.text.judging import Judge
from millrace_cleaning.steps.text.settings import LanguageConfig

Floats = npt.NDArray[np.float32]

PIECES = 4
"""A text's beginning is often a heading or a licence, so the sample is spread."""


@dataclass(frozen=True, slots=True)
class Model:
    """py3langid's tables.

    Attributes:
        moves: Rows of 256: the automaton's next state, by byte.
        rows: (states,): where a state's row of moves begins.
        features: (states,): the feature that is found on entering a state, or -1.
        weights: (features, classes), log probabilities; prior: (classes,).
        labels: Of classes; scripts of one language share a label.
        label_of: (classes,): the position of a class's label.
    """

    moves: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]
    features: npt.NDArray[np.int32]
    weights: Floats
    prior: Floats
    labels: tuple[str, ...]
    label_of: npt.NDArray[np.int64]


def apply(batch: pa.RecordBatch, config: LanguageConfig, _scratch: Scratch) -> Outcome:
    """Append each text's language and how sure the model is, and remove what is not to stay."""
    model = load_model()
    unknown = sorted(set(config.keep) - set(model.labels))
    if unknown:
        raise errors.InvalidData(
            f"The model knows no language {unknown[0]!r}; {errors.nearest(unknown[0], model.labels)}",
            field="with.steps.keep",
        )
    texts = texts_of(batch.column(config.column))
    found, scores = identify(texts, model, sample_bytes=config.sample_bytes)
    judge = Judge(config.column, texts.valid)
    if config.keep:
        kept = np.isin(found, [model.labels.index(label) for label in config.keep])
        judge.refuse("keep", ~kept, [model.labels[i] for i in found])
    judge.at_least("min_score", scores, config.min_score)
    nothing = ~texts.valid
    labels = pa.array(model.labels, pa.string()).take(pa.array(found, mask=nothing))
    batch = batch.append_column("language", labels)
    batch = batch.append_column("language_score", pa.array(scores.astype(np.float64), mask=nothing))
    return Outcome(batch, judge.findings)


def identify(texts: Texts, model: Model, *, sample_bytes: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the position of each row's label, and its probability."""
    scores, maybe_capitals = _scores(
        texts.offsets, texts.data, sample_bytes, model.moves, model.rows, model.features, model.weights, model.prior
    )
    for row in np.flatnonzero(maybe_capitals):
        content = texts.data[texts.offsets[row] : texts.offsets[row + 1]].tobytes()
        text = content[:sample_bytes].decode("utf-8", "ignore")
        if text.isupper():  # py3langid looks at these in lower case
            lowered = np.frombuffer(text.lower().encode(), dtype=np.uint8)
            scores[row] = _scores(
                np.array([0, len(lowered)]), lowered, len(lowered), model.moves, model.rows, model.features, model.weights,
                model.prior,
            )[0][0]  # fmt: skip
    by_label = np.zeros((len(scores), len(model.labels)), dtype=np.float32)
    for i, label in enumerate(model.label_of):
        by_label[:, label] += scores[:, i]
    found = by_label.argmax(axis=1)
    return found, by_label[np.arange(len(found)), found]


@cache
def load_model() -> Model:
    """Read the model that comes with py3langid. Takes about half a second, once in a process."""
    source = LanguageIdentifier.from_model_file(MODEL_FILE)
    labels = tuple(source.labels)
    return Model(
        moves=np.asarray(source.tk_nextmove, dtype=np.uint32),
        rows=np.asarray(source.tk_row, dtype=np.uint32) << np.uint32(8),
        features=np.asarray(source.tk_output, dtype=np.int32),
        weights=np.ascontiguousarray(source.nb_ptc, dtype=np.float32),
        prior=np.asarray(source.nb_pc, dtype=np.float32),
        labels=labels,
        label_of=np.array([labels.index(label) for label in source.nb_classes], dtype=np.int64),
    )


@numba.njit(cache=True, nogil=True)
def _scores(offsets, data, sample, moves, rows, features, weights, prior):  # type: ignore[no-untyped-def]  # numba infers
    """Return the probability of each class for each row, and which rows may be written in capitals alone."""
    num_rows, num_classes = len(offsets) - 1, len(prior)
    scores = np.zeros((num_rows, num_classes), dtype=np.float32)
    capitals = np.zeros(num_rows, dtype=np.bool_)
    tally = np.zeros(len(weights), dtype=np.int64)
    touched = np.empty(len(weights), dtype=np.int64)
    for row in range(num_rows):
        begin, end = offsets[row], offsets[row + 1]
        size = end - begin
        num_pieces = 1 if size <= sample else PIECES
        num = seen = upper = lower = 0
        for piece in range(num_pieces):
            at, stop = begin, end
            if num_pieces > 1:
                at = begin + (size - sample // PIECES) * piece // (PIECES - 1)
                stop = at + sample // PIECES
            while at > begin and at < stop and data[at] & 0xC0 == 0x80:
                at += 1
            state = 0
            seen += stop - at
            while at < stop:
                byte = data[at]
                upper += 65 <= byte <= 90 or byte >= 0x80
                lower += 97 <= byte <= 122
                state = np.int64(moves[np.int64(rows[state]) + byte])
                feature = np.int64(features[state])
                if feature >= 0:
                    if tally[feature] == 0:
                        touched[num] = feature
                        num += 1
                    tally[feature] += 1
                at += 1
        capitals[row] = upper > 0 and lower == 0
        line = scores[row]
        if num:
            line += prior
        for i in range(num):
            share = np.float32(np.log1p(np.float32(tally[touched[i]])))
            for c in range(num_classes):
                line[c] += share * weights[touched[i], c]
            tally[touched[i]] = 0
        _normalize(line, np.float32(1 / np.sqrt(max(seen, 1))))
    return scores, capitals


@numba.njit(cache=True, nogil=True)
def _normalize(line, scale):  # type: ignore[no-untyped-def]  # numba infers
    """Turn log probabilities into probabilities, at py3langid's temperature: the square root of how much was seen."""
    highest, total = line.max(), np.float32(0)
    for c in range(len(line)):
        line[c] = np.exp((line[c] - highest) * scale)
        total += line[c]
    line /= total
