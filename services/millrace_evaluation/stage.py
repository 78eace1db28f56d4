"""Evaluate: score the model and those it is compared with on the same rows, resample, judge, report."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import TASK_KINDS
from millrace.models.bootstrap import Bootstrap
from millrace.models.package import read_card
from millrace.models.predictor import load_predictor
from millrace.models.program import choose_program
from millrace.models.report import PREDICTIONS, REPORT, Baseline, BaselineName, Measure, Report, ReportMeta, RuleVerdict
from millrace.models.scores import class_measures
from millrace.models.scoring import Scored, score
from millrace.runtime.stage import Artifact, Context, Inputs, Task, outputs
from millrace_evaluation.gate import Relation, judge, overall, parse_rule
from millrace_evaluation.settings import EvaluateConfig
from millrace_evaluation.split import Split
from millrace_evaluation.summary import summarize

BASELINES: tuple[BaselineName, ...] = ("current", "source")


def work(context: Context, config: EvaluateConfig, inputs: Inputs, task: Task) -> StageOutputs:  # noqa: ARG001 - one task
    """Judge `model` on one split of `dataset`, beside `current` and `source` where they are bound."""
    split = Split(inputs["dataset"], config.split, rows_per_batch=config.rows_per_batch)
    models: dict[str, Artifact] = {name: inputs[name] for name in ("model", *BASELINES) if name in inputs}
    scored, unusable = _score_all(context, config, models, split)
    judged = scored["model"]

    bootstrap = Bootstrap(
        config.num_bootstrap, config.confidence, context.seed, split.units() if judged.unit == "rows" else None
    )
    measures, replicates = bootstrap.measure({name: one.scores for name, one in scored.items()})
    baselines = {
        name: Baseline(
            model=models[name].ref.digest, metrics=measures[name],
            differences=bootstrap.difference(measures["model"], replicates["model"], measures[name], replicates[name]),
        )
        for name in BASELINES if name in scored
    }  # fmt: skip

    gate = _judge_all(
        config, measures["model"], baselines, unusable, primary=TASK_KINDS[judged.task].primary_metric,
        has_source="source" in models,
    )  # fmt: skip
    report = _report(config, models["model"], split, judged, measures["model"], baselines, gate)
    context.log.info("model_judged", verdict=report.verdict, rows=report.num_rows)
    return _write(context, report, judged.predictions)


def _score_all(
    context: Context, config: EvaluateConfig, models: Mapping[str, Artifact], split: Split
) -> tuple[dict[str, Scored], dict[str, str]]:
    """Each model's scores, and why a baseline has none: a release of before may not fit the data of today."""
    scored: dict[str, Scored] = {}
    unusable: dict[str, str] = {}
    for position, (name, artifact) in enumerate(models.items()):
        done, total = position * split.num_rows, len(models) * split.num_rows
        try:
            scored[name] = _score(context, config, artifact, split, is_judged=name == "model", done=done, total=total)
        except errors.InvalidInput as error:
            if name == "model":
                raise
            unusable[name] = f"the {name} model cannot answer this data: {error.message}"
            continue
        if scored[name].task != scored["model"].task or len(scored[name].scores) != len(scored["model"].scores):
            unusable[name] = f"the {name} model does not solve the same task on the same {scored['model'].unit}"
            del scored[name]
    return scored, unusable


def _score(
    context: Context, config: EvaluateConfig, model: Artifact, split: Split, *, is_judged: bool, done: int, total: int
) -> Scored:
    program = config.program if is_judged else ""
    predictor = load_predictor(model.directory(), program=program, num_threads=context.num_threads)
    return score(
        predictor, split.batches(), target=split.target(task=predictor.card.task),
        progress=lambda rows: context.progress(done + rows, total, unit="rows"),
    )  # fmt: skip


def _judge_all(
    config: EvaluateConfig,
    metrics: Mapping[str, Measure],
    baselines: Mapping[BaselineName, Baseline],
    unusable: Mapping[str, str],
    *,
    primary: str,
    has_source: bool,
) -> tuple[RuleVerdict, ...]:
    rules = [parse_rule(text) for text in config.gate]
    if has_source:
        rules.append(Relation("", "non_inferior_to", "source", 100 * config.max_source_loss, is_percent=True))
    return tuple(
        judge(rule, primary=primary, metrics=metrics, baselines=baselines, unusable=unusable) for rule in rules
    )


def _report(
    config: EvaluateConfig,
    model: Artifact,
    split: Split,
    judged: Scored,
    metrics: dict[str, Measure],
    baselines: dict[BaselineName, Baseline],
    gate: tuple[RuleVerdict, ...],
) -> Report:
    return Report(
        model=model.ref.digest,
        program=choose_program(read_card(model.directory()), config.program).path,
        dataset=split.dataset.ref.digest,
        split=config.split,
        split_digest=split.digest,
        task=judged.task,
        primary_metric=TASK_KINDS[judged.task].primary_metric,
        num_rows=len(judged.scores),
        confidence=config.confidence,
        num_bootstrap=config.num_bootstrap,
        resampled=(split.group or "rows") if judged.unit == "rows" else "windows",
        metrics=metrics,
        baselines=baselines,
        verdict=overall(gate),
        gate=gate,
        labels=judged.labels,
        confusion=tuple(tuple(map(int, row)) for row in judged.confusion),
        classes=class_measures(judged.confusion, judged.labels),
    )


def _write(context: Context, report: Report, predictions: pa.Table) -> StageOutputs:
    path = context.workdir / PREDICTIONS
    pq.write_table(predictions, path)
    meta = ReportMeta(**{name: getattr(report, name) for name in ReportMeta.model_fields})
    artifact = context.write_artifact(
        "report", {REPORT: report.to_json().encode(), PREDICTIONS: path}, meta=meta.model_dump(mode="json")
    )
    return outputs(
        {"report": artifact}, summary=summarize(report), verdict=report.verdict,
        metrics={name: m.value for name, m in report.metrics.items()},
    )  # fmt: skip
