"""What a user may ask an audit, and its stage kind. Imports pydantic alone."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from millrace import errors
from millrace.contracts.shorthand import OneOrMore
from millrace.contracts.stages import Port, StageConfig, StageKind

Check = Literal["target", "columns", "splits", "giveaways", "shift", "labels"]
CHECKS: tuple[Check, ...] = get_args(Check)

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Code = Literal[
    "one_class", "unseen_class", "tiny_class", "class_imbalance", "class_shift", "constant_target", "target_range",
    "target_follows_order",
    "constant_column", "empty_column", "duplicate_column", "high_cardinality", "follows_order",
    "exact_duplicates", "near_duplicates", "contradictions", "group_leak", "time_leak",
    "giveaway",
    "column_shift", "row_shift",
    "label_errors",
]  # fmt: skip
CODES: tuple[Code, ...] = get_args(Code)


class AuditConfig(StageConfig):
    """`with` of an audit stage."""

    checks: Annotated[tuple[Check, ...], OneOrMore()] = Field(
        default=CHECKS,
        description="What is looked at. target: classes and ranges; columns: constant, repeated, id-like; splits: rows, "
        "groups and times on both sides; giveaways: features that tell the target alone; shift: train against test; "
        "labels: suspected label errors.",
    )
    fail_on: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=(),
        description="Findings that fail the run: names such as `group_leak`, or `error` or `warning` for all that are as "
        "severe or more. Default: none, the report alone says it.",
    )
    max_rows: int = Field(
        default=20_000, ge=100, le=5_000_000,
        description="Models look at so many rows, drawn by the run's seed; what is counted is counted over all rows. A "
        "model of 20,000 rows and 50 columns takes seconds, and its memory grows with rows.",
    )  # fmt: skip
    max_columns: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Features that models look at, the first ones; each costs its own models.",
    )
    folds: int = Field(
        default=5, ge=2, le=20, description="Parts that rows are judged in, each by models that have not seen it."
    )
    model: Literal["auto", "linear", "boosting"] = Field(
        default="auto",
        description="What judges labels. linear: logistic regression; boosting: gradient-boosted trees, for tables. auto: "
        "the mean of both for tables of at most 20 classes, else linear.",
    )
    max_label_errors: float = Field(
        default=0.0, ge=0, le=1, description="Share of suspected label errors that is no finding: noise that is known."
    )
    giveaway_score: float = Field(
        default=0.95, gt=0, le=1,
        description="How much of the target one feature must tell to be suspected: 0 is as good as the commonest class or "
        "the mean, 1 is every row, out of fold.",
    )  # fmt: skip
    shift_auc: float = Field(
        default=0.6, gt=0.5, lt=1,
        description="How well train and test must be told apart to be a finding, as area under the ROC curve: 0.5 is not at "
        "all. A difference that chance explains is never one.",
    )  # fmt: skip

    @field_validator("fail_on")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = (*CODES, *SEVERITIES[1:])
        for name in names:
            if name not in known:
                raise ValueError(f"no finding {name!r}; {errors.nearest(name, known)}")
        return names

    @field_validator("checks")
    @classmethod
    def _some(cls, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        if not checks or len(set(checks)) != len(checks):
            raise ValueError("expected at least one check, and each once")
        return checks


AUDIT = StageKind(
    name="audit",
    caption="Look for what would mislead who learns from a data set: leaks, shifts, wrong labels.",
    service="cleaning",
    module="millrace_cleaning.audit.stage",
    config=AuditConfig,
    inputs={"dataset": Port(type="dataset")},
    # Whoever needs the report of a model must not be given this one for being nearest.
    outputs={"report": Port(type="report", auto=False)},
    preload=("numpy", "pyarrow", "pyarrow.parquet", "sklearn.linear_model", "sklearn.ensemble"),
)
