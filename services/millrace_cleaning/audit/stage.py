"""The audit stage: every row goes past once and is counted; models judge a sample; what is found becomes a report."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Context, Inputs, Task, outputs
from millrace_cleaning.audit.report import LABEL_ERRORS, LEAKED_ROWS, REPORT, AuditReport, by_severity, judge, summarize
from millrace_cleaning.audit.rows import open_data
from millrace_cleaning.audit.settings import AuditConfig
from millrace_cleaning.extras import needing

with needing("audit"):
    from threadpoolctl import threadpool_limits

    from millrace_cleaning.audit.examine import examine


def work(context: Context, config: AuditConfig, inputs: Inputs, task: Task) -> StageOutputs:  # noqa: ARG001 - one task
    """Audit the data set, write the report and the lists of suspected and leaked rows."""
    data = open_data(inputs["dataset"])
    with threadpool_limits(
        1
    ):  # so that sums are added in one order: equal rows give equal bytes on any number of cores
        found = examine(data, config, seed=context.seed, progress=lambda done: context.progress(done, 1.0, unit=""))
    verdict, gate = judge(found.findings, config.fail_on)
    report = AuditReport(
        dataset=data.artifact.ref.digest,
        target=data.target.name if data.target else "",
        num_rows=data.meta.num_rows,
        num_judged=found.num_judged,
        seed=context.seed,
        checks=config.checks,
        not_judged=tuple(found.not_judged),
        findings=by_severity(found.findings),
        metrics=found.metrics,
        verdict=verdict,
        gate=gate,
    )
    files: dict[str, Path | bytes] = {REPORT: report.to_json().encode()}
    for name, table in ((LABEL_ERRORS, found.label_errors), (LEAKED_ROWS, found.leaked_rows)):
        files[name] = context.workdir / name
        pq.write_table(table, files[name], compression="zstd")
    meta = {"dataset": report.dataset, "verdict": verdict, "metrics": report.metrics}
    artifact = context.write_artifact("report", files, meta=meta)
    context.log.info("data_audited", findings=len(report.findings), rows=found.num_judged, verdict=verdict)
    return outputs({"report": artifact}, summary=summarize(report), metrics=report.metrics, verdict=verdict)
