"""All checks of an audit, one after the other, over the same pass of rows and the same sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from millrace.contracts.schema import Column
from millrace_cleaning.audit.columns import column_findings
from millrace_cleaning.audit.crossings import LEAKED_SCHEMA, Groups, Pairs, RowKeys, leaked_rows, time_findings
from millrace_cleaning.audit.giveaways import giveaway_findings
from millrace_cleaning.audit.labels import LABEL_ERRORS_SCHEMA, find_suspects, probabilities_of
from millrace_cleaning.audit.matrix import JUDGED, NUMBERS, Floats, Ints, codes_of, numbers_of
from millrace_cleaning.audit.models import Folds, folds_of
from millrace_cleaning.audit.near import near_findings
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import Data, Sample, draw
from millrace_cleaning.audit.settings import AuditConfig
from millrace_cleaning.audit.shift import shift_findings
from millrace_cleaning.audit.targets import TargetCounts, order_findings

_SHARES = {"read": 0.3, "giveaways": 0.45, "shift": 0.65, "labels": 1.0}
"""How far along an audit is when a part of it ends."""


@dataclass(slots=True)
class Found:
    """What an audit found."""

    num_judged: int
    findings: list[Finding] = field(default_factory=list)
    not_judged: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    label_errors: pa.Table = field(default_factory=LABEL_ERRORS_SCHEMA.empty_table)
    leaked_rows: pa.Table = field(default_factory=LEAKED_SCHEMA.empty_table)


@dataclass(frozen=True, slots=True)
class Judged:
    """The rows of a sample that have a target worth learning.

    Attributes:
        rows: Which rows of the sample (M,).
        values: Their target (M,): codes of classes, or numbers.
        labels: The classes; empty of numbers.
        folds: Of these rows.
    """

    rows: Ints
    values: Ints | Floats
    labels: tuple[str, ...]
    folds: Folds


def examine(data: Data, config: AuditConfig, *, seed: int, progress: Callable[[float], None]) -> Found:
    """Make every check of the config.

    Args:
        progress: Called with the share that is done, 0 to 1.
    """
    counters = _Counters(data, config)
    sample = draw(
        data, max_rows=config.max_rows, seed=seed, see=counters.see,
        progress=lambda rows: progress(_SHARES["read"] * rows / data.num_rows),
    )  # fmt: skip
    found = Found(num_judged=len(sample))
    if len(sample) < data.num_rows:
        found.not_judged.append(
            f"Models looked at {len(sample):,} of {data.num_rows:,} rows, drawn by seed {seed}; raise max_rows for more."
        )
    features = _features(data, config, found)
    counted, exact = counters.findings()
    found.findings += counted
    if "columns" in config.checks:
        found.findings += column_findings(sample, data.features)
    if "splits" in config.checks:
        _find_near(data, sample, features, exact, found, seed=seed)
    if {"giveaways", "target", "labels"} & set(config.checks) and data.target is not None:
        _about_target(data, config, sample, features, found, seed=seed, progress=progress)
    if "shift" in config.checks:
        more, areas = shift_findings(
            sample, features, threshold=config.shift_auc, seed=seed, progress=_part(progress, "giveaways", "shift")
        )
        found.findings += more
        found.metrics |= {"shift_auc": areas[""]} if areas else {}
    _count(found)
    progress(1.0)
    return found


class _Counters:
    """What is counted over all rows while they go past."""

    def __init__(self, data: Data, config: AuditConfig) -> None:
        schema, self.data = data.meta.schema_, data
        splits = "splits" in config.checks
        names = [c.name for c in data.features]
        target = data.target
        self.target = TargetCounts(target) if target and "target" in config.checks else None
        is_class = target is not None and target.type == "category"
        self.keys = RowKeys(names, target.name if target and is_class else "") if splits and names else None
        self.groups = [Groups(c.name) for c in schema.with_role("group")] if splits else []
        self.times = schema.with_role("time") if splits else ()

    def see(self, batch: pa.RecordBatch, code: int) -> None:
        if self.target:
            self.target.add(batch.column(self.target.target.name), code)
        if self.keys:
            self.keys.add(batch, code)
        for group in self.groups:
            group.add(batch, code)

    def findings(self) -> tuple[list[Finding], Pairs | None]:
        found: list[Finding] = list(self.target.findings()) if self.target else []
        pairs = None
        if self.keys:
            more, pairs = self.keys.findings()
            found += more
        for group in self.groups:
            found += group.findings()
        for column in self.times:
            found += time_findings(self.data, column)
        return found, pairs


def _features(data: Data, config: AuditConfig, found: Found) -> list[Column]:
    """The features that models look at."""
    judged = [c for c in data.features if c.type in JUDGED]
    for column in data.features:
        if column.type not in JUDGED:
            found.not_judged.append(f"Models do not look at {column.name!r}: it is {column.type}.")
    if len(judged) > config.max_columns:
        found.not_judged.append(
            f"Models looked at the first {config.max_columns:,} of {len(judged):,} features; raise max_columns for more."
        )
    return judged[: config.max_columns]


def _find_near(
    data: Data, sample: Sample, features: list[Column], exact: Pairs | None, found: Found, *, seed: int
) -> None:
    findings, near = near_findings(sample, features, seed=seed)
    found.findings += findings
    pairs = [p for p in (exact, near) if p is not None]
    found.leaked_rows = leaked_rows(data, pairs)
    found.metrics["leaked_rows"] = float(len(np.unique(np.concatenate([p.rows for p in pairs]))))


def _about_target(
    data: Data, config: AuditConfig, sample: Sample, features: list[Column], found: Found, *, seed: int,
    progress: Callable[[float], None],
) -> None:  # fmt: skip
    target = data.target
    assert target is not None
    judged = _judged_rows(data, config, sample, target, found, seed=seed)
    if judged is None:
        return
    part = _taken(sample, judged.rows)
    if "target" in config.checks:
        found.findings += order_findings(target.name, judged.values, part.ordinals, judged.folds)
    if "giveaways" in config.checks:
        more, scores = giveaway_findings(
            part, features, target, judged.values, judged.folds, threshold=config.giveaway_score,
            progress=_part(progress, "read", "giveaways"),
        )  # fmt: skip
        found.findings += more
        found.metrics |= {"giveaway_score": max(scores.values())} if scores else {}
    if "labels" in config.checks and judged.labels and features:
        progress(_SHARES["shift"])
        _find_label_errors(config, part, features, judged, target, found, seed=seed)


def _find_label_errors(
    config: AuditConfig,
    part: Sample,
    features: list[Column],
    judged: Judged,
    target: Column,
    found: Found,
    *,
    seed: int,
) -> None:
    classes = judged.values.astype(np.int64)
    probabilities = probabilities_of(
        part, features, classes, judged.folds, num_classes=len(judged.labels), model=config.model, seed=seed
    )
    suspects = find_suspects(
        part, classes, judged.labels, probabilities, target=target.name, at_most=config.max_label_errors
    )
    found.findings += suspects.findings
    found.label_errors = suspects.table
    found.metrics |= {
        "label_errors": float(suspects.table.num_rows), "label_error_share": suspects.share,
        "model_accuracy": suspects.accuracy,
    }  # fmt: skip


def _judged_rows(
    data: Data, config: AuditConfig, sample: Sample, target: Column, found: Found, *, seed: int
) -> Judged | None:
    """Rows whose target can be judged out of fold: of a class with as many rows as there are folds, or with a number."""
    array = sample.column(target.name)
    if target.type in NUMBERS and target.type != "boolean":
        numbers = numbers_of(array)
        rows = np.flatnonzero(np.isfinite(numbers))
        if len(rows) < 2 * config.folds or numbers[rows].min() == numbers[rows].max():
            return None
        folds = folds_of(None, num_rows=len(rows), k=config.folds, seed=seed)
        return Judged(rows=rows, values=numbers[rows], labels=(), folds=folds)
    if target.type not in ("category", "boolean"):
        return None
    codes, names = codes_of(array), _names(array)
    counts = np.bincount(codes)
    kept = [code for code, name in enumerate(names) if name is not None and counts[code] >= config.folds]
    rows = np.flatnonzero(np.isin(codes, kept))
    if len(rows) < len(sample):
        found.not_judged.append(
            f"{len(sample) - len(rows):,} rows without a target, or of classes with fewer than {config.folds} rows, were not "
            "judged."
        )
    if len(kept) < 2:
        return None
    classes = np.searchsorted(kept, codes[rows]).astype(np.int64)
    groups = data.meta.schema_.with_role("group")
    of_group = codes_of(sample.column(groups[0].name))[rows] if groups else None
    folds = folds_of(classes, num_rows=len(rows), k=config.folds, seed=seed, groups=of_group)
    return Judged(rows=rows, values=classes, labels=tuple(str(names[code]) for code in kept), folds=folds)


def _names(array: pa.Array) -> list[str | None]:
    """The labels in the order of `codes_of`."""
    codes = codes_of(array)
    _, first = np.unique(codes, return_index=True)
    names: list[str | None] = array.cast(pa.string()).take(pa.array(first)).to_pylist()
    return names


def _taken(sample: Sample, rows: Ints) -> Sample:
    return Sample(
        rows=sample.rows.take(pa.array(rows)), codes=sample.codes[rows], ordinals=sample.ordinals[rows],
        positions=sample.positions[rows],
    )  # fmt: skip


def _part(progress: Callable[[float], None], begin: str, end: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(_SHARES[begin] + (_SHARES[end] - _SHARES[begin]) * done / max(total, 1))


def _count(found: Found) -> None:
    severities = [f.severity for f in found.findings]
    found.metrics |= {
        "findings": float(len(severities)), "errors": float(severities.count("error")),
        "warnings": float(severities.count("warning")),
    }  # fmt: skip
