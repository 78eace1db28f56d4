"""What an audit says: findings with their evidence, and the report that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from millrace.contracts.base import Contract, canonical_json
from millrace.contracts.events import Verdict
from millrace.contracts.ids import DigestText
from millrace.contracts.schema import SplitName
from millrace.models.report import REPORT, RuleVerdict
from millrace_cleaning.audit.settings import SEVERITIES, Check, Code, Severity

__all__ = ["LABEL_ERRORS", "LEAKED_ROWS", "REPORT", "AuditReport", "Finding", "judge", "summarize"]

LABEL_ERRORS = "label_errors.parquet"
LEAKED_ROWS = "leaked_rows.parquet"
MAX_SUMMARY_BYTES = 3900


class Finding(Contract):
    """One thing that would mislead. It never holds what a row says, only columns, classes and numbers."""

    code: Code
    severity: Severity
    column: str = Field(default="", description="Empty where it is about whole rows.")
    message: str
    evidence: dict[str, Any] = Field(description="The numbers behind it, by name.")
    remedy: str


class AuditReport(Contract):
    """`report.json` of an audit."""

    format: Literal["millrace.audit/v1"] = "millrace.audit/v1"
    dataset: DigestText
    target: str = Field(description="The column to predict; empty without one.")
    num_rows: dict[SplitName, int]
    num_judged: int = Field(description="Rows that models looked at; counts are over all rows.")
    seed: int = Field(description="What the rows were drawn, and folds made, by.")
    checks: tuple[Check, ...]
    not_judged: tuple[str, ...] = Field(description="What was left out, and why.")
    findings: tuple[Finding, ...] = Field(description="The most severe first.")
    metrics: dict[str, float]
    verdict: Verdict | None
    gate: tuple[RuleVerdict, ...]


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: -SEVERITIES.index(f.severity)))


def judge(findings: Sequence[Finding], fail_on: Sequence[str]) -> tuple[Verdict | None, tuple[RuleVerdict, ...]]:
    """Hold findings against the rules of `fail_on`. The verdict is None where there are no rules."""
    gate = []
    for rule in fail_on:
        hits = [f for f in findings if _is_hit(f, rule)]
        said = f"{hits[0].message}" + (f" And {len(hits) - 1} more." if len(hits) > 1 else "") if hits else "Not found."
        gate.append(RuleVerdict(rule=f"no {rule}", verdict="failed" if hits else "passed", detail=said))
    if not gate:
        return None, ()
    return "failed" if any(r.verdict == "failed" for r in gate) else "passed", tuple(gate)


def _is_hit(finding: Finding, rule: str) -> bool:
    if rule in SEVERITIES:
        return SEVERITIES.index(finding.severity) >= SEVERITIES.index(rule)
    return finding.code == rule


def summarize(report: AuditReport) -> dict[str, Any]:
    """What people see first, within the 4 KiB of a stage's summary; the least severe findings are left to the report."""
    counts = {s: sum(f.severity == s for f in report.findings) for s in reversed(SEVERITIES)}
    summary: dict[str, Any] = {"findings": counts, "rows_judged": report.num_judged}
    if report.verdict:
        failed = [
            {"rule": r.rule, "verdict": r.verdict, "detail": r.detail[:240]}
            for r in report.gate
            if r.verdict == "failed"
        ]
        summary |= {"verdict": report.verdict, "gate": failed[:6]}
    shown = [f"{f.severity}: {f.message}"[:240] for f in report.findings if f.severity != "info"]
    while len(canonical_json({**summary, "found": shown}).encode()) > MAX_SUMMARY_BYTES:
        shown.pop()
    return {**summary, "found": shown}
