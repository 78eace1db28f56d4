"""The deploy stage: checks that this very model passed its gate, proves it without traffic, writes the release.

It moves no traffic: the endpoint advances in the transaction that accepts this stage's success.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.base import canonical_json
from millrace.contracts.events import StageOutputs
from millrace.models.generator import load_generator
from millrace.models.package import package_files, read_card, read_golden
from millrace.models.predictor import Predictor, load_predictor
from millrace.models.report import ReportMeta
from millrace.runtime.stage import Artifact, Context, Inputs, Task, outputs
from millrace_deployment import proof
from millrace_deployment.settings import DeployConfig

RELEASE = "release.json"
LANGUAGE_TASK = "language_modelling"
MAX_SHOWN_BYTES = 1536
"""Of a request or an answer in the summary, which has 4 KiB for all; release.json has them whole."""


def work(context: Context, config: DeployConfig, inputs: Inputs, task: Task) -> StageOutputs:  # noqa: ARG001
    """Judge the papers, then the model itself."""
    model, report = inputs["model"], inputs["report"]
    check_verdict(model, report)
    package_files(model.directory())
    prove = _prove_generator if read_card(model.directory()).task == LANGUAGE_TASK else _prove_predictor
    proven = proof.within(config.ready_timeout_s, lambda: prove(context, config, model))
    release = {
        "format": "millrace.release/v1", "endpoint": config.endpoint, "model": model.ref.digest,
        "report": report.ref.digest, **proven,
    }  # fmt: skip
    meta = {"endpoint": config.endpoint, "model": model.ref.digest, "report": report.ref.digest}
    artifact = context.write_artifact("release", {RELEASE: canonical_json(release).encode()}, meta=meta)
    context.log.info("candidate_proven", endpoint=config.endpoint, model=model.ref.digest)
    summary = {
        "endpoint": config.endpoint,
        "sample_request": shown(proven["sample_request"]),
        "sample_response": shown(proven["sample_response"]),
        "latency_ms": proven["latency_ms"]["p50"],
    }
    return outputs({"release": artifact}, summary=summary)


def check_verdict(model: Artifact, report: Artifact) -> None:
    """Refuse a model whose very digest did not pass.

    Raises:
        InvalidInput: The report is about another model, or its verdict is not `passed`.
    """
    try:
        meta = ReportMeta.model_validate(report.meta)
    except ValidationError:
        raise errors.InvalidInput(
            "The report does not say which model it judged.", field="inputs.report", remedy="Evaluate the model again."
        ) from None
    if meta.model != model.ref.digest:
        raise errors.InvalidInput(
            f"The report judged model {meta.model[:12]}, and the candidate is {model.ref.digest[:12]}.",
            field="inputs.report", remedy="Evaluate this very model, and bind its report: what ships is what was judged.",
        )  # fmt: skip
    if meta.verdict != "passed":
        raise errors.InvalidInput(
            f"Model {model.ref.digest[:12]} has the verdict {meta.verdict!r}, expected 'passed'.",
            field="inputs.report", remedy="Train a better model, or change the gate of `evaluate`.",
        )  # fmt: skip


def shown(value: Mapping[str, Any]) -> dict[str, Any]:
    """A request or an answer for people: whole if it is small, else its first row, with the likeliest labels only."""
    rows = {**value}
    if len(canonical_json(rows)) <= MAX_SHOWN_BYTES:
        return rows
    for key in ("rows", "predictions"):
        if key in rows:
            rows[key] = [{name: _likeliest(part) for name, part in rows[key][0].items()}]
    if len(canonical_json(rows)) <= MAX_SHOWN_BYTES:
        return rows
    return {"shortened": json.dumps(rows, ensure_ascii=True)[: MAX_SHOWN_BYTES // 2] + "..."}


def _likeliest(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) <= 5:
        return value
    return dict(sorted(value.items(), key=lambda item: -item[1])[:5])


def _prove_predictor(context: Context, config: DeployConfig, model: Artifact) -> dict[str, Any]:
    if config.prompt:
        raise errors.InvalidSpec(
            "expected no prompt: the model answers rows.", field="with.prompt", remedy="Use `sample`."
        )
    predictor = load_predictor(model.directory(), num_threads=context.num_threads)
    golden = _replay(predictor, model)
    context.progress(1, 3, unit="proofs")
    rows = [dict(row) for row in config.sample or ()] or [proof.shortest_row(read_golden(model.directory())[0])]
    try:
        answers = proof.answer(predictor, rows)
    except errors.InvalidData as error:
        where = f"with.sample{error.field.removeprefix('rows')}" if config.sample else error.field
        raise errors.InvalidData(error.message, field=where, remedy=error.remedy) from None
    context.progress(2, 3, unit="proofs")
    latency = proof.timed(lambda: proof.answer(predictor, rows[:1]))
    context.progress(3, 3, unit="proofs", latency_ms=latency["p50"])
    return {
        "golden": golden, "latency_ms": latency,
        "sample_request": {"rows": rows}, "sample_response": {"predictions": answers},
    }  # fmt: skip


def _prove_generator(context: Context, config: DeployConfig, model: Artifact) -> dict[str, Any]:
    if config.sample is not None:
        raise errors.InvalidSpec(
            "expected no sample: a language model continues a text.", field="with.sample", remedy="Use `prompt`."
        )
    generator = load_generator(model.directory(), num_threads=context.num_threads)
    golden = _replay(generator, model)
    context.progress(1, 3, unit="proofs")
    prompt = config.prompt or _first_words(model)
    text = proof.generate(generator, prompt, seed=context.seed)
    context.progress(2, 3, unit="proofs")
    latency = proof.timed(lambda: next(generator.generate(prompt, max_tokens=1), ""))
    context.progress(3, 3, unit="proofs", latency_ms=latency["p50"])
    return {
        "golden": golden, "latency_ms": latency,
        "sample_request": {"prompt": prompt, "max_tokens": proof.NUM_TOKENS, "seed": context.seed},
        "sample_response": {"text": text},
    }  # fmt: skip


def _replay(predictor: Predictor, model: Artifact) -> dict[str, Any]:
    replayed = proof.replay(predictor, *read_golden(model.directory()))
    return {
        "rows": replayed.num_rows, "max_difference": replayed.max_difference, "tolerance": replayed.tolerance,
        "share_within": replayed.share_within,
    }  # fmt: skip


def _first_words(model: Artifact) -> str:
    """The beginning of the first golden text that has one."""
    rows, _ = read_golden(model.directory())
    texts = [value for column in rows.columns for value in column.to_pylist() if isinstance(value, str)]
    prompt = next((text.strip()[:64] for text in texts if text.strip()), "")
    return prompt or "The"
