"""The deploy stage: what ships is what was judged, and answers before it gets traffic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tiny_models
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.events import StageOutputs, Verdict
from millrace.models.package import write_golden
from millrace.models.predictor import load_predictor
from millrace.runtime.stage import Context, local_context
from millrace.store.local import LocalStore
from millrace_deployment import deploy, proof
from millrace_deployment.settings import DeployConfig


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with local_context(LocalStore(tmp_path / "store", tenant="default"), tmp_path) as made:
        yield made


def run(context: Context, model: ArtifactRef, report: ArtifactRef, **config: Any) -> StageOutputs:
    inputs = {"model": context.open_artifact(model), "report": context.open_artifact(report)}
    return deploy.work(context, DeployConfig(endpoint="numbers", **config), inputs, {})


def release_of(context: Context, done: StageOutputs) -> dict[str, Any]:
    release = context.open_artifact(done.artifacts["release"])
    decoded: dict[str, Any] = json.loads(release.read(deploy.RELEASE))
    return decoded


def test_a_release_names_the_model_the_report_and_what_was_proven(context: Context, tmp_path: Path) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "model", scale=3.0))
    report = tiny_models.store_report(context.store, model)
    done = run(context, model, report, sample=[{"x": 2.0, "bonus": 1}])
    release = release_of(context, done)
    assert (release["model"], release["report"]) == (model.digest, report.digest)
    assert release["sample_response"] == {"predictions": [{"value": 7.0}]}
    assert release["golden"]["rows"] == 16
    assert done.summary["sample_request"] == {"rows": [{"x": 2.0, "bonus": 1}]}
    assert done.summary["latency_ms"] > 0


def test_without_a_sample_a_golden_row_is_asked(context: Context, tmp_path: Path) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_classifier(tmp_path / "model"))
    done = run(context, model, tiny_models.store_report(context.store, model))
    answer = done.summary["sample_response"]["predictions"][0]
    assert answer["label"] in tiny_models.LABELS
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize("verdict", ["failed", "inconclusive"])
def test_a_model_that_did_not_pass_is_refused(context: Context, tmp_path: Path, verdict: Verdict) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "model"))
    report = tiny_models.store_report(context.store, model, verdict=verdict)
    with pytest.raises(errors.InvalidInput, match=verdict) as raised:
        run(context, model, report)
    assert raised.value.remedy


def test_a_report_about_another_model_is_refused(context: Context, tmp_path: Path) -> None:
    judged = tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "a", scale=1.0))
    other = tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "b", scale=2.0))
    with pytest.raises(errors.InvalidInput, match=judged.digest[:12]):
        run(context, other, tiny_models.store_report(context.store, judged))


def test_a_model_that_answers_otherwise_than_when_it_was_made_is_refused(context: Context, tmp_path: Path) -> None:
    package = tiny_models.write_regression(tmp_path / "model", scale=1.0)
    rows = pa.record_batch({"x": [float(i) for i in range(16)], "bonus": pa.array([0] * 16, pa.int64())})
    write_golden(package, rows, pa.record_batch({"value": [float(2 * i) for i in range(16)]}))
    model = tiny_models.store_model(context.store, package)
    with pytest.raises(errors.InvalidData, match="golden rows"):
        run(context, model, tiny_models.store_report(context.store, model))


def test_a_wrong_sample_names_its_row_and_column(context: Context, tmp_path: Path) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "model"))
    with pytest.raises(errors.InvalidData) as raised:
        run(context, model, tiny_models.store_report(context.store, model), sample=[{"x": 1.0}, {"x": "many"}])
    assert raised.value.field == "with.sample[1].x"


def test_a_package_with_a_stranger_is_refused(context: Context, tmp_path: Path) -> None:
    package = tiny_models.write_regression(tmp_path / "model")
    files: dict[str, Path | bytes] = {
        p.relative_to(package).as_posix(): p for p in package.rglob("*") if p.is_file()
    } | {"weights.pkl": b"cos\nsystem\n"}
    model = context.write_artifact("model", files)
    with pytest.raises(errors.InvalidData, match=r"weights\.pkl"):
        run(context, model, tiny_models.store_report(context.store, model))


def test_a_language_model_proves_a_generation(context: Context, tmp_path: Path) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_generator(tmp_path / "model"))
    done = run(context, model, tiny_models.store_report(context.store, model), prompt="ab")
    assert done.summary["sample_response"]["text"].startswith("cabcab")


def test_a_language_model_takes_a_prompt_and_no_sample(context: Context, tmp_path: Path) -> None:
    model = tiny_models.store_model(context.store, tiny_models.write_generator(tmp_path / "model"))
    with pytest.raises(errors.InvalidSpec, match="continues a text"):
        run(context, model, tiny_models.store_report(context.store, model), sample=[{"text": "a"}])


def test_the_summary_stays_small_whatever_the_answer_is() -> None:
    answer = {"predictions": [{"label": "a", "probabilities": {f"class-{i}": 1 / 500 for i in range(500)}}]}
    assert len(canonical_json(deploy.shown(answer))) <= deploy.MAX_SHOWN_BYTES
    assert len(deploy.shown(answer)["predictions"][0]["probabilities"]) == 5
    assert len(canonical_json(deploy.shown({"rows": [{"text": "é" * 100_000}]}))) <= deploy.MAX_SHOWN_BYTES


def test_a_candidate_that_does_not_get_ready_is_given_up() -> None:
    with pytest.raises(errors.TimedOut, match=r"0\.05 s"):
        proof.within(0.05, lambda: time.sleep(2))


def test_distances_are_relative_to_large_answers_and_absolute_for_small_ones() -> None:
    expected = pa.record_batch({"value": [1000.0, 0.0]})
    found = pa.record_batch({"value": [1001.0, 0.0]})
    assert proof.row_distances(found, expected) == pytest.approx(np.array([0.001, 0.0]))
    small = proof.row_distances(pa.record_batch({"p": [[0.5, 0.5]]}), pa.record_batch({"p": [[0.4, 0.6]]}))
    assert small == pytest.approx(np.array([0.1]))


def test_one_row_in_ten_of_a_quantized_model_may_stray(tmp_path: Path) -> None:
    predictor = load_predictor(tiny_models.write_classifier(tmp_path / "model"))
    program = predictor.card.programs[0].model_copy(update={"precision": "int8"})
    predictor.card = predictor.card.model_copy(update={"programs": (program,)})
    rows = pa.record_batch({"x": [float(i) for i in range(1, 21)], "bonus": pa.array([0] * 20, pa.int64())})
    answers = predictor.predict(rows)

    def strayed(count: int) -> pa.RecordBatch:
        probabilities = [[1.0, 0.0] if i < count else p for i, p in enumerate(answers.column(1).to_pylist())]
        return pa.record_batch(
            {"label": answers.column(0), "probabilities": pa.array(probabilities, pa.list_(pa.float32()))}
        )

    assert proof.replay(predictor, rows, strayed(2)).share_within == 0.9
    with pytest.raises(errors.InvalidData, match="3 of its 20"):
        proof.replay(predictor, rows, strayed(3))
