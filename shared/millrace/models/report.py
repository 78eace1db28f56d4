"""`report.json`: what an evaluation found, bound to one model and one split; and the names of metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.events import Verdict
from millrace.contracts.ids import DigestText
from millrace.contracts.schema import SplitName

REPORT = "report.json"
PREDICTIONS = "predictions.parquet"

CLASSIFICATION_METRICS = ("accuracy", "macro_f1", "log_loss", "brier", "calibration_error")
REGRESSION_METRICS = ("rmse", "mae", "r2")
LANGUAGE_METRICS = ("bits_per_character", "perplexity")
METRIC_NAMES = CLASSIFICATION_METRICS + REGRESSION_METRICS + LANGUAGE_METRICS
LOWER_IS_BETTER = frozenset(METRIC_NAMES) - {"accuracy", "macro_f1", "r2"}

BaselineName = Literal["current", "source"]
"""What a model is compared with: the endpoint's current release, or the model that `optimize` made it from."""


class Measure(Contract):
    """A metric with its bootstrap interval."""

    value: float
    low: float
    high: float


class ClassMeasure(Contract):
    """How well one class is found."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int = Field(description="Rows of this class in the split.")


class RuleVerdict(Contract):
    """What one rule of the gate came to."""

    rule: str
    verdict: Verdict
    detail: str


class Baseline(Contract):
    """Another model on the same rows."""

    model: DigestText
    metrics: dict[str, Measure]
    differences: dict[str, Measure] = Field(description="Judged model minus this one; paired intervals.")


class Report(Contract):
    """The verdict holds for this model's digest and this split's digest, and for nothing else."""

    format: Literal["millrace.report/v1"] = "millrace.report/v1"
    model: DigestText
    program: str = Field(description="Path of the program that was judged.")
    dataset: DigestText
    split: SplitName
    split_digest: DigestText = Field(description="Of the digests of the split's shards, in order.")
    task: str
    primary_metric: str
    num_rows: int = Field(ge=0, description="Rows; of a language model, windows of text.")
    confidence: float
    num_bootstrap: int
    resampled: str = Field(description="What the bootstrap draws: `rows`, `windows`, or the groups' column.")
    metrics: dict[str, Measure]
    baselines: dict[BaselineName, Baseline] = Field(default_factory=dict)
    verdict: Verdict
    gate: tuple[RuleVerdict, ...] = ()
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = Field(default=(), description="Rows by true label, columns by answer.")
    classes: tuple[ClassMeasure, ...] = ()


class ReportMeta(Contract):
    """`meta` of a report's manifest: enough to refuse a model that was not judged."""

    model: DigestText
    dataset: DigestText
    split: SplitName
    split_digest: DigestText
    verdict: Verdict
