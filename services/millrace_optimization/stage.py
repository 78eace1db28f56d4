"""Optimize: build variants, prove them, measure them on the validation split, time them in turn, choose one, pack it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import TASK_KINDS, DatasetMeta
from millrace.models.bootstrap import Bootstrap
from millrace.models.package import model_meta, package_files, read_card, read_golden
from millrace.models.predictor import Predictor
from millrace.models.reasons import reason_of
from millrace.models.report import LOWER_IS_BETTER, Measure
from millrace.models.scoring import Scored, score
from millrace.models.shards import read_batches
from millrace.models.signature import ModelCard
from millrace.runtime.stage import Artifact, Context, Inputs, Task, outputs
from millrace_optimization.candidates import Candidate, make_candidate
from millrace_optimization.choosing import Variant, VariantTable, choose
from millrace_optimization.constraints import parse_constraint
from millrace_optimization.settings import OptimizeConfig, VariantName
from millrace_optimization.summary import summarize
from millrace_optimization.timing import Latency, measure_latencies
from millrace_optimization.variants import RECIPES

SOURCE: VariantName = "onnx_fp32"
"""The source's own program: what the others are compared with, and what stays if none of them will do."""


def work(context: Context, config: OptimizeConfig, inputs: Inputs, task: Task) -> StageOutputs:  # noqa: ARG001 - one task
    """Choose the best form of `model`, by the validation split of `dataset`; the test split is for its judge."""
    model: Artifact = inputs["model"]
    card = read_card(model.directory())
    primary = TASK_KINDS[card.task].primary_metric
    candidates, failed = _make_all(context, config, model, card, _Validation(inputs["dataset"], config, task=card.task))

    golden, _ = read_golden(candidates[0].directory)
    latencies = measure_latencies(
        {c.name: c.predictor for c in candidates}, golden.slice(0, 1), num_repeats=config.num_repeats
    )
    measured = _measure(config, candidates, latencies, primary=primary, seed=context.seed)
    variants = choose(
        [*measured, *failed], constraints=[parse_constraint(text) for text in config.subject_to],
        minimize=config.minimize, eligible=config.variants,
    )  # fmt: skip

    chosen = next(v for v in variants if v.status == "chosen")
    table = VariantTable(
        source=model.ref.digest, task=card.task, primary_metric=primary, chosen=chosen.name, minimize=config.minimize,
        subject_to=config.subject_to, device=context.device, num_threads=context.num_threads,
        num_cores=os.cpu_count() or 1, num_repeats=config.num_repeats, variants=variants,
    )  # fmt: skip
    context.log.info("variant_chosen", variant=chosen.name, reason=chosen.reason)
    winner = next(c for c in candidates if c.name == chosen.name)
    return _write(context, table, winner, source=model)


class _Validation:
    """The validation split: what a variant is scored on. Test belongs to evaluation alone."""

    def __init__(self, dataset: Artifact, config: OptimizeConfig, *, task: str) -> None:
        meta = DatasetMeta.model_validate(dataset.meta)
        targets = meta.schema_.with_role("target")
        self._target = targets[0].name if targets and task != "language_modelling" else ""
        self._paths = [dataset.file(shard.path) for shard in meta.of("validation")]
        self._rows_per_batch = config.rows_per_batch
        if not meta.num_rows.get("validation"):
            raise errors.InvalidData(
                "The data set has no rows in its validation split.", field="dataset",
                remedy="Give more data, or a larger share to validation in the clean stage.",
            )  # fmt: skip

    def score(self, predictor: Predictor) -> Scored:
        batches = read_batches(self._paths, rows=self._rows_per_batch)
        return score(predictor, batches, target=self._target, progress=lambda rows: None)  # noqa: ARG005 - shown by variant


def _make_all(
    context: Context, config: OptimizeConfig, model: Artifact, card: ModelCard, validation: _Validation
) -> tuple[list[Candidate], list[Variant]]:
    """Candidates, the source's program first, and the variants that could not be made."""
    names = [SOURCE, *(name for name in config.variants if name != SOURCE)]
    lineage = card.lineage.model_copy(update={"source_model": model.ref.digest})
    card = card.model_copy(update={"lineage": lineage})
    candidates: list[Candidate] = []
    failed: list[Variant] = []
    for index, name in enumerate(names):
        context.progress(index, len(names) + 1, unit="variants", variant=name)
        try:
            candidates.append(
                make_candidate(
                    name, card, source=model.directory(), directory=context.workdir / name,
                    num_threads=context.num_threads, score_on_validation=validation.score,
                )
            )  # fmt: skip
        except (
            Exception
        ) as error:  # toolkits raise what they like; a variant that cannot be had is no failure of the stage
            if name == SOURCE:
                raise
            context.log.warning("variant_failed", variant=name, reason=str(error))
            failed.append(_failed(name, error))
    context.progress(len(names), len(names) + 1, unit="variants", variant="timing")
    return candidates, failed


def _failed(name: VariantName, error: Exception) -> Variant:
    recipe = RECIPES[name]
    reason = reason_of(error)[:300]
    return Variant(name=name, format=recipe.format, precision=recipe.precision, status="failed", reason=reason)


def _measure(
    config: OptimizeConfig, candidates: Sequence[Candidate], latencies: dict[str, Latency], *, primary: str, seed: int
) -> list[Variant]:
    bootstrap = Bootstrap(config.num_bootstrap, config.confidence, seed)
    metrics, replicates = bootstrap.measure({c.name: c.scored.scores for c in candidates})
    source, first = candidates[0].program, latencies[SOURCE]
    variants = []
    for candidate in candidates:
        name, program, latency = candidate.name, candidate.program, latencies[candidate.name]
        change = bootstrap.difference(metrics[name], replicates[name], metrics[SOURCE], replicates[SOURCE])
        drops = {metric: _drop(metric, difference) for metric, difference in change.items()}
        variants.append(
            Variant(
                name=name, format=program.format, precision=program.precision, size_bytes=program.size_bytes,
                size_ratio=program.size_bytes / source.size_bytes, latency_p50_ms=latency.p50_ms,
                latency_p25_ms=latency.p25_ms, latency_p75_ms=latency.p75_ms,
                latency_ratio=latency.p50_ms / first.p50_ms, metrics=metrics[name], drops=drops,
                relative_drop=drops[primary].value / (abs(metrics[SOURCE][primary].value) or 1.0),
                parity_max_abs=candidate.parity_max_abs,
            )
        )  # fmt: skip
    return variants


def _drop(metric: str, change: Measure) -> Measure:
    """A change as a loss: positive where the variant is worse."""
    if metric in LOWER_IS_BETTER:
        return change
    return Measure(value=0 - change.value, low=0 - change.high, high=0 - change.low)


def _write(context: Context, table: VariantTable, winner: Candidate, *, source: Artifact) -> StageOutputs:
    model = context.write_artifact("model", package_files(winner.directory), meta=model_meta(winner.card))
    variants = context.write_artifact(
        "variants", {"variants.json": table.to_json().encode()},
        meta={"source": source.ref.digest, "model": model.digest, "chosen": table.chosen},
    )  # fmt: skip
    chosen = next(v for v in table.variants if v.name == table.chosen)
    return outputs({"model": model, "variants": variants}, summary=summarize(table), metrics=chosen.measured())
