"""Scores: what a model's answers are worth, held so that any resample of the rows can be scored at once.

Every metric here is a function of sums over rows. So a Scores keeps per-row values, and a bootstrap replicate is one matrix
product of its row weights with them. Shapes: N rows, R replicates, C classes, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from millrace.models.ops.base import Array
from millrace.models.report import ClassMeasure

NUM_CALIBRATION_BINS = 15
MIN_PROBABILITY = 1e-15
"""A log loss counts no row as worse than this: one certain mistake must not make the mean infinite."""

Sums = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Binned:
    """Per-row values that are summed by bin: `codes` int64 (N,) in 0..size-1, or -1 for none, and `values` (N,)."""

    codes: Array
    values: Array
    size: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Per-row values and the metrics that their sums make.

    Attributes:
        rows: Values (N,) by name; `count` among them, 1 for each row.
        bins: Values that are summed by bin.
        metrics: From sums (R,) and (R, size) to metrics (R,) by name.
    """

    rows: Mapping[str, Array]
    metrics: Callable[[Sums], dict[str, Array]]
    bins: Mapping[str, Binned] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows["count"])

    def resampled(self, weights_RN: Array) -> dict[str, Array]:
        """Each metric (R,) under each replicate's row weights."""
        sums: dict[str, Array] = {name: weights_RN @ values for name, values in self.rows.items()}
        sums.update({name: _binned_sums(binned, weights_RN) for name, binned in self.bins.items()})
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return {name: np.nan_to_num(value) for name, value in self.metrics(sums).items()}

    def values(self) -> dict[str, float]:
        """Each metric on the rows as they are."""
        return {name: float(v[0]) for name, v in self.resampled(np.ones((1, len(self)))).items()}


def classification_scores(truth_N: Array, probabilities_NC: Array, answers_N: Array) -> Scores:
    """Accuracy, macro F1, log loss, Brier score and calibration error.

    Args:
        truth_N: Codes of the true labels; -1 for a label that the model does not know, which counts as missed.
        probabilities_NC: Of each class.
        answers_N: Codes of the answers.
    """
    num_rows, num_classes = probabilities_NC.shape
    known = truth_N >= 0
    correct = (answers_N == truth_N).astype(np.float64)
    of_truth = np.where(known, probabilities_NC[np.arange(num_rows), truth_N], 0.0)
    brier = (probabilities_NC**2).sum(axis=1) - 2 * of_truth + 1
    confidence = probabilities_NC[np.arange(num_rows), answers_N]
    bin_N = np.minimum((confidence * NUM_CALIBRATION_BINS).astype(np.int64), NUM_CALIBRATION_BINS - 1)
    ones = np.ones(num_rows)
    return Scores(
        rows={
            "count": ones, "correct": correct, "brier": brier, "loss": -np.log(np.maximum(of_truth, MIN_PROBABILITY)),
        },
        bins={
            "hits": Binned(truth_N, correct, num_classes),
            "true": Binned(truth_N, ones, num_classes),
            "answered": Binned(answers_N, ones, num_classes),
            "miscalibration": Binned(bin_N, confidence - correct, NUM_CALIBRATION_BINS),
        },
        metrics=_classification_metrics,
    )  # fmt: skip


def regression_scores(truth_N: Array, values_N: Array) -> Scores:
    """Root mean squared error, mean absolute error and the share of variance explained."""
    wrong = values_N - truth_N
    # Variance by sums loses digits where the mean is far from zero; a shift leaves it as it is.
    centred = truth_N - truth_N.mean() if len(truth_N) else truth_N
    rows = {"count": np.ones(len(truth_N)), "squared": wrong**2, "absolute": np.abs(wrong)}
    return Scores(rows={**rows, "truth": centred, "truth_squared": centred**2}, metrics=_regression_metrics)


def language_scores(bits_N: Array, characters_N: Array) -> Scores:
    """Bits per character and perplexity per character.

    Args:
        bits_N: Cost of each window of text.
        characters_N: Characters that the cost is for.
    """
    rows = {"count": np.ones(len(bits_N)), "bits": bits_N, "characters": characters_N.astype(np.float64)}
    return Scores(rows=rows, metrics=_language_metrics)


def confusion(truth_N: Array, answers_N: Array, *, num_classes: int) -> Array:
    """Counts (C, C): rows by true label, columns by answer; unknown labels are left out."""
    known = truth_N >= 0
    flat = np.bincount(truth_N[known] * num_classes + answers_N[known], minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def class_measures(confusion_CC: Array, labels: Sequence[str]) -> tuple[ClassMeasure, ...]:
    """Precision, recall and F1 of each class; 0 where nothing was answered or nothing is there."""
    hits, support, answered = np.diag(confusion_CC), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)
    precision, recall = hits / np.maximum(answered, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + answered, 1)
    return tuple(
        ClassMeasure(
            label=label,
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            support=int(support[i]),
        )
        for i, label in enumerate(labels)
    )


def _classification_metrics(sums: Sums) -> dict[str, Array]:
    count = sums["count"]
    occurs = (sums["true"] + sums["answered"]) > 0
    f1 = np.where(occurs, 2 * sums["hits"] / np.maximum(sums["true"] + sums["answered"], 1e-12), 0.0)
    return {
        "accuracy": sums["correct"] / count,
        "macro_f1": f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1),
        "log_loss": sums["loss"] / count,
        "brier": sums["brier"] / count,
        "calibration_error": np.abs(sums["miscalibration"]).sum(axis=1) / count,
    }


def _regression_metrics(sums: Sums) -> dict[str, Array]:
    count = sums["count"]
    variance = sums["truth_squared"] / count - (sums["truth"] / count) ** 2
    mse = sums["squared"] / count
    return {
        "rmse": np.sqrt(mse),
        "mae": sums["absolute"] / count,
        "r2": np.where(variance > 0, 1 - mse / np.where(variance > 0, variance, 1.0), 0.0),
    }


def _language_metrics(sums: Sums) -> dict[str, Array]:
    bits = sums["bits"] / np.maximum(sums["characters"], 1)
    return {"bits_per_character": bits, "perplexity": np.exp2(bits)}


def _binned_sums(binned: Binned, weights_RN: Array) -> Array:
    """Sums (R, size) by bin: one bincount over all replicates, each with bins of its own."""
    kept = binned.codes >= 0
    codes, weights = binned.codes[kept], weights_RN[:, kept] * binned.values[kept]
    offsets = np.arange(len(weights_RN))[:, None] * binned.size
    flat = np.bincount((offsets + codes).ravel(), weights.ravel(), minlength=len(weights_RN) * binned.size)
    return flat.reshape(len(weights_RN), binned.size)
