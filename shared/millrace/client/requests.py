"""Requests to endpoints, and changes of a run, checked here so that a mistake names its row or field before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.client import calls
from millrace.client.calls import Call
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import CacheUse
from millrace.contracts.faults import path_of, said
from millrace.contracts.ids import new_run_id
from millrace.contracts.loading import validate
from millrace.contracts.views import GenerateRequest, PredictResponse, RerunRun


def predict_call(name: str, rows: Sequence[Mapping[str, Any]]) -> Call[PredictResponse]:
    """Raises InvalidData where rows are none, too many, or not JSON."""
    try:
        return calls.predict(name, rows)
    except (ValidationError, TypeError, ValueError) as error:
        raise _invalid(error, "rows") from None


def generate_request(prompt: str, **settings: Any) -> GenerateRequest:
    """Raises InvalidData where a setting is out of its range."""
    try:
        return GenerateRequest(prompt=prompt, **settings)
    except ValidationError as error:
        raise _invalid(error, "") from None


def rerun_request(
    params: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    priority: int | None,
    seed: int | None,
    cache: CacheUse | None,
    idempotency_key: str,
) -> RerunRun:
    """What is to differ in a new run. Raises InvalidSpec where it cannot be."""
    values = {n: v.model_dump(mode="json") if isinstance(v, ArtifactRef) else v for n, v in (params or {}).items()}
    body = {
        "run_id": new_run_id(), "params": values, "labels": dict(labels or {}), "priority": priority, "seed": seed,
        "cache": cache, "idempotency_key": idempotency_key,
    }  # fmt: skip
    return validate(RerunRun, body)


def _invalid(error: Exception, field: str) -> errors.InvalidData:
    if not isinstance(error, ValidationError):
        return errors.InvalidData(f"Expected a list of rows, each a mapping of column to value: {error}.", field=field)
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in path_of(fault) if not str(part).startswith("json")]
    remedy = "Predict a whole file with `millrace batch`." if fault["type"] == "too_long" else ""
    return errors.InvalidData(said(fault), field=".".join(path) or field, remedy=remedy)
