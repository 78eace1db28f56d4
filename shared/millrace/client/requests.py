"""Requests to endpoints, checked here so that a mistake names its row before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.client import calls
from millrace.client.calls import Call
from millrace.contracts.faults import path_of, said
from millrace.contracts.views import GenerateRequest, PredictResponse


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


def _invalid(error: Exception, field: str) -> errors.InvalidData:
    if not isinstance(error, ValidationError):
        return errors.InvalidData(f"Expected a list of rows, each a mapping of column to value: {error}.", field=field)
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in path_of(fault) if not str(part).startswith("json")]
    remedy = "Predict a whole file with `millrace batch`." if fault["type"] == "too_long" else ""
    return errors.InvalidData(said(fault), field=".".join(path) or field, remedy=remedy)
