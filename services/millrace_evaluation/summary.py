"""The few facts of a report that people see first, within the 4 KiB of a stage's summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.contracts.base import canonical_json
from millrace.models.report import Measure, Report

MAX_BYTES = 3900
MAX_CLASSES = 12


def summarize(report: Report) -> dict[str, Any]:
    """What the command line and the dashboard show; whatever does not fit is left to report.json, largest first."""
    summary: dict[str, Any] = {
        "task": report.task,
        "num_rows": report.num_rows,
        "primary_metric": report.primary_metric,
        "metrics": _rounded(report.metrics),
        "verdict": report.verdict,
        "gate": [rule.model_dump() for rule in report.gate],
    }
    if report.baselines:
        summary["baseline"] = {name: _rounded(b.differences) for name, b in report.baselines.items()}
    if 0 < len(report.labels) <= MAX_CLASSES:
        summary["labels"] = list(report.labels)
        summary["confusion"] = [list(row) for row in report.confusion]
    for name in ("confusion", "labels", "baseline", "gate"):
        if len(canonical_json(summary).encode()) > MAX_BYTES:
            summary.pop(name, None)
    return summary


def _rounded(measures: Mapping[str, Measure]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": float(f"{m.value:.6g}"), "low": float(f"{m.low:.6g}"), "high": float(f"{m.high:.6g}")}
        for name, m in measures.items()
    }
