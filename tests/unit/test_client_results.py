"""Results are typed; a run that ended otherwise raises one error with stage, cause and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import errors
from millrace.client.results import Outcome, check_succeeded
from millrace.contracts.views import RunView


def view(status: str, *stages: dict[str, Any], **fields: Any) -> RunView:
    return RunView.model_validate(
        {"run_id": "run_1", "pipeline": "p", "status": status, "submitted_at": "2026-01-02T03:04:05Z", "stages": stages}
        | fields
    )


def stage(name: str, type: str = "", digest: str = "a", **outputs: Any) -> dict[str, Any]:
    artifacts = {type: {"digest": digest * 64, "type": type}} if type else {}
    return {"name": name, "kind": name, "status": "succeeded", "outputs": {"artifacts": artifacts, **outputs}}


def test_the_last_model_and_report_count() -> None:
    outcome = Outcome(
        view(
            "succeeded",
            stage("train", "model", "1"),
            stage("evaluate", "report", metrics={"accuracy": 0.9}),
            stage("optimize", "model", "2"),
            stage("evaluate_optimized", "report", metrics={"accuracy": 0.8}, verdict="passed"),
        )
    )
    assert outcome.model.digest == "2" * 64
    assert (outcome.metrics, outcome.verdict) == ({"accuracy": 0.8}, "passed")
    assert list(outcome.stages) == ["train", "evaluate", "optimize", "evaluate_optimized"]


def test_what_no_stage_made_is_not_found() -> None:
    outcome = Outcome(view("succeeded", stage("clean", "dataset")))
    with pytest.raises(errors.NotFound, match=r"made no model\. Its stages: clean"):
        _ = outcome.model
    with pytest.raises(errors.NotFound, match="made no release"):
        outcome.endpoint_name()


def test_the_endpoint_is_the_one_deployed_to() -> None:
    assert Outcome(view("succeeded", stage("deploy", "release", summary={"endpoint": "e"}))).endpoint_name() == "e"


def test_a_failed_run_raises_with_stage_cause_and_remedy() -> None:
    failed = view(
        "failed",
        stage="train",
        error={"code": "invalid_data", "message": "Labels hold NaN.", "remedy": "Drop these rows."},
    )
    with pytest.raises(
        errors.RunFailed, match=r"failed at stage 'train': Labels hold NaN\. Drop these rows\."
    ) as caught:
        check_succeeded(failed)
    assert (caught.value.stage, caught.value.cause, caught.value.remedy) == (
        "train",
        "invalid_data",
        "Drop these rows.",
    )


def test_a_rejected_run_names_the_rules_that_failed() -> None:
    gate = [{"rule": "accuracy >= 0.95", "verdict": "failed"}, {"rule": "f1 >= 0.1", "verdict": "passed"}]
    rejected = view("rejected", stage("evaluate", "report", summary={"gate": gate}), stage="evaluate")
    with pytest.raises(errors.RunFailed, match=r"rejected at stage 'evaluate'.*\(accuracy >= 0.95\)"):
        check_succeeded(rejected)
