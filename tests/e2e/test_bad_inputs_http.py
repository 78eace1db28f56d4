"""Bad requests: each is answered by a problem (RFC 9457) with the field and what to do, and the gateway goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bad_inputs import NEVER
from millrace.testing.factory import Factory

MIB = 2**20
PIPELINE = {"name": "t", "params": {"d": "dataset"}, "stages": {"clean": {"inputs": {"raw": "$params.d"}}}}
PREDICT = "/v1/endpoints/numbers/predict"
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}

REQUESTS: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    ("POST", "/v1/runs", {"content": b"{nope"}, 422, "", "not valid JSON"),
    ("POST", "/v1/runs", {"content": b""}, 422, "", "JSON object"),
    ("POST", "/v1/runs", {"content": b"[]"}, 422, "", "JSON object"),
    ("POST", "/v1/runs", {"content": b"\xff\xfe"}, 422, "", "not valid JSON"),
    ("POST", "/v1/runs", {"content": b"[" * 100_000}, 400, "", "nested"),
    ("POST", "/v1/runs", {"content": b'{"pipeline": ' + b"9" * 5000 + b"}"}, 400, "", "digits"),
    ("POST", "/v1/runs", {"content": b'{"pipeline": {"a": NaN}}'}, 422, "pipeline.a", "finite"),
    ("POST", "/v1/runs", {"content": b" " * (9 * MIB)}, 413, "", "larger than 8388608 bytes"),
    ("POST", "/v1/runs", {"json": {"pipelin": {}}}, 422, "pipelin", "unknown"),
    ("POST", "/v1/runs", {"json": {}}, 422, "pipeline", "required"),
    ("POST", "/v1/runs", {"content": b'{"pipeline": {"name": "\\ud800"}}'}, 422, "name", "string"),
    ("POST", "/v1/runs", {"json": {"pipeline": PIPELINE, "params": {"d": "/etc/passwd"}}}, 422, "params.d", "s3:// URL"),
    ("POST", "/v1/runs", {"json": {"pipeline": PIPELINE, "priority": 101}}, 422, "priority", "equal to 100; found 101"),
    ("POST", "/v1/runs", {"json": {"pipeline": PIPELINE, "run_id": "mine"}}, 422, "run_id", "pattern"),
    ("POST", "/v1/runs", {"json": {"pipeline": PIPELINE, "idempotency_key": "k\0"}}, 422, "idempotency_key", "pattern"),
    ("GET", "/v1/runs?pipeline=%00", {}, 422, "", "zero byte"),
    ("GET", "/v1/runs/%00", {}, 422, "", "zero byte"),
    ("DELETE", "/v1/runs", {}, 405, "", "Method Not Allowed"),
    ("GET", "/v1/nothing", {}, 404, "", "There is no /v1/nothing"),
    ("GET", "/v1/runs/nope", {}, 404, "run_id", "no run 'nope'"),
    ("GET", "/v1/runs/nope/events", {}, 404, "run_id", "no run 'nope'"),
    ("GET", "/v1/runs?limit=0", {}, 422, "limit", "greater than or equal to 1"),
    ("GET", "/v1/runs?status=done", {}, 422, "status", "valid: cancelled"),
    ("GET", "/v1/runs/x/events", {"headers": {"Last-Event-ID": "abc"}}, 422, "last-event-id", "whole number"),
    ("GET", "/v1/runs/x/events", {"headers": {"Last-Event-ID": "-1"}}, 422, "last-event-id", "equal to 0"),
    ("POST", "/v1/runs/x/cancel", {"json": {"reason": "x" * 501}}, 422, "reason", "at most 500 characters"),
    ("POST", "/v1/datasets", {"content": b""}, 422, "", "holds no bytes"),
    ("POST", "/v1/datasets?filename=../x", {"content": b"a"}, 422, "", "not a safe relative path"),
    ("POST", "/v1/datasets", {"content": b"a", "headers": {"content-type": "multipart/form-data"}}, 422, "Content-Type",
     "no boundary"),
    ("POST", "/v1/datasets", {"content": b"abc", "headers": MULTIPART}, 422, "", "malformed"),
    ("POST", "/v1/artifacts?type=zip", {"content": b"a"}, 422, "type", "valid: any"),
    ("POST", "/v1/artifacts?type=code&meta=[", {"content": b"a"}, 422, "meta", "JSON object"),
    ("POST", "/v1/artifacts?type=code&meta=" + "[" * 4000, {"content": b"a"}, 422, "meta", "JSON object"),
    ("GET", "/v1/artifacts/xyz", {}, 422, "digest", "pattern"),
    ("GET", "/v1/artifacts/" + "0" * 64, {}, 404, "", "not in the store"),
    ("POST", "/v1/endpoints/nope/predict", {"json": {"rows": [{}]}}, 404, "endpoint", "no endpoint 'nope'"),
    ("POST", "/v1/endpoints/No Name/predict", {"json": {}}, 422, "name", "lower-case"),
    ("GET", PREDICT, {}, 405, "", "Method Not Allowed"),
    ("POST", PREDICT, {"content": b"{"}, 422, "body", "not JSON"),
    ("POST", PREDICT, {"content": b"[" * 100_000}, 422, "body", "not JSON"),
    ("POST", PREDICT, {"json": {"row": []}}, 422, "rows", "required"),
    ("POST", PREDICT, {"json": {"rows": []}}, 422, "rows", "at least 1"),
    ("POST", PREDICT, {"json": {"rows": [1]}}, 422, "rows[0]", "Expected an object"),
    ("POST", PREDICT, {"json": {"rows": [{"n": 1, "x": "a"}]}}, 422, "rows[0].x", "finite number"),
    ("POST", PREDICT, {"json": {"rows": [{"n": 1, "x": 1}] * 5000}}, 422, "rows", "at most 4096"),
    ("POST", PREDICT, {"content": b" " * (9 * MIB)}, 413, "", "larger than"),
    ("POST", "/v1/endpoints/numbers/generate", {"json": {"prompt": "a"}}, 422, "", "not serve a language model"),
    ("GET", "/v1/runs", {"headers": {"Host": "evil.example"}}, 403, "", "MILLRACE_GATEWAY_HOSTS"),
    ("GET", "/v1/runs", {"headers": {"Origin": "http://evil.example"}}, 403, "", "may not call"),
]  # fmt: skip


@pytest.fixture(scope="module")
def http(shared_factory: Factory, served: str) -> Iterator[httpx.Client]:
    """A bare HTTP client at the gateway."""
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=shared_factory.client.url, trust_env=False, timeout=30, headers=headers) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "given", "status", "field", "words"), REQUESTS)
def test_a_bad_request_is_answered_by_a_problem(
    http: httpx.Client, method: str, path: str, given: dict[str, Any], status: int, field: str, words: str
) -> None:
    answer = http.request(method, path, **given)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["status"], problem["field"]) == (status, field), problem
    assert words in problem["detail"] + problem["remedy"]
    assert not [trace for trace in NEVER if trace in answer.text]
    assert http.get("/healthz").json() == {"status": "ok"}


def test_none_of_these_was_unforeseen(shared_factory: Factory) -> None:
    assert "request_crashed" not in (shared_factory.home / "logs" / "gateway.log").read_text()
