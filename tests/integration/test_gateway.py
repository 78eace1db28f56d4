"""The gateway as a process, over HTTP: what it accepts, answers, refuses and streams."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateways import COMMAND, Line, gateway_environment, running_gateway
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import ErrorInfo, StageOutputs
from millrace.settings import Settings
from millrace.store.artifacts import write_manifest

CSV = b"a,label\n1,x\n2,y\n"
PIPELINE: dict[str, Any] = {
    "name": "p", "params": {"data": "dataset"}, "stages": {"clean": {"inputs": {"raw": "$params.data"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def http(home: Path) -> Iterator[httpx.Client]:
    limits = {"MILLRACE_GATEWAY_MAX_BODY_BYTES": "20000", "MILLRACE_GATEWAY_MAX_UPLOAD_BYTES": "3000000"}
    with running_gateway(home, **limits) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def line(home: Path) -> Iterator[Line]:
    with Line(Settings(home=home)) as line:
        yield line


@pytest.fixture(scope="module")
def source(http: httpx.Client) -> dict[str, Any]:
    """An uploaded CSV file."""
    answer = http.post("/v1/datasets", params={"filename": "rows.csv"}, content=CSV)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def submit(http: httpx.Client, source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/runs", json={"pipeline": PIPELINE, "params": {"data": source}, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response, status: int, field: str = "") -> str:
    """Check that an answer is a Problem with a status; return what it says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["field"] == field, body
    assert "Traceback" not in answer.text
    return f"{body['detail']} {body['remedy']}"


def messages(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """The messages of an event stream."""
    fields: dict[str, str] = {}
    for text in answer.iter_lines():
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


# --- health and catalogue


def test_it_lives_and_is_ready(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz").json()
    assert [(check["name"], check["ok"]) for check in ready["checks"]] == [
        ("broker", True), ("store", True), ("ledger", True),
    ]  # fmt: skip


def test_it_counts_what_it_answers(http: httpx.Client) -> None:
    http.get("/v1/runs/run_unknown")
    text = http.get("/metrics").text
    assert 'millrace_gateway_requests_total{method="GET",route="/v1/runs/{run_id}",status="404"}' in text


def test_it_lists_stage_kinds_with_their_schemas(http: httpx.Client) -> None:
    kinds = {kind["name"]: kind for kind in http.get("/v1/kinds").json()}
    assert kinds["clean"]["inputs"]["raw"]["type"] == "source"
    assert "target" in kinds["clean"]["config"]["properties"]
    assert "with.clean" in http.get("/v1/schema/pipeline.json").json()["$defs"]


# --- data


def test_a_raw_upload_becomes_a_source(http: httpx.Client, source: dict[str, Any]) -> None:
    assert (source["type"], source["size_bytes"]) == ("source", len(CSV))
    manifest = http.get(f"/v1/artifacts/{source['digest']}").json()
    assert manifest["files"] == [
        {
            "path": "rows.csv",
            "digest": hashlib.sha256(CSV).hexdigest(),
            "size_bytes": len(CSV),
            "media_type": "text/csv",
        }
    ]


def test_several_files_become_one_source(http: httpx.Client) -> None:
    large = bytes(range(256)) * 8000
    files = [("files", ("b/large.bin", large)), ("files", ("a.csv", CSV))]
    ref = http.post("/v1/datasets", files=files).json()
    manifest = http.get(f"/v1/artifacts/{ref['digest']}").json()
    assert [entry["path"] for entry in manifest["files"]] == ["a.csv", "b/large.bin"]
    assert http.get(f"/v1/artifacts/{ref['digest']}/files/b/large.bin").content == large


def test_equal_uploads_are_one_artifact(http: httpx.Client, source: dict[str, Any]) -> None:
    again = http.post("/v1/artifacts", params={"type": "source", "filename": "rows.csv"}, content=CSV)
    assert again.json() == source


def test_a_download_is_cached_by_its_digest(http: httpx.Client, source: dict[str, Any]) -> None:
    path = f"/v1/artifacts/{source['digest']}/files/rows.csv"
    first = http.get(path)
    assert first.content == CSV
    assert first.headers["content-security-policy"].startswith("sandbox")
    assert http.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_an_unsafe_file_name_is_refused(http: httpx.Client, name: str) -> None:
    assert "not a safe relative path" in problem(http.post("/v1/datasets", params={"filename": name}, content=CSV), 422)


def test_an_empty_upload_is_refused(http: httpx.Client) -> None:
    assert "holds no bytes" in problem(http.post("/v1/datasets", content=b""), 422)


def test_an_upload_over_the_limit_is_refused_with_and_without_a_length(http: httpx.Client) -> None:
    assert "larger than 3000000 bytes" in problem(http.post("/v1/datasets", content=b"x" * 3_000_001), 413)
    chunks = (b"x" * 1_000_000 for _ in range(4))
    assert "larger than 3000000 bytes" in problem(http.post("/v1/datasets", content=chunks), 413)


def test_an_unknown_artifact_or_file_is_not_found(http: httpx.Client, source: dict[str, Any]) -> None:
    problem(http.get(f"/v1/artifacts/{'0' * 64}"), 404)
    assert "rows.csv" in problem(http.get(f"/v1/artifacts/{source['digest']}/files/row.csv"), 404)
    problem(http.get("/v1/artifacts/xyz"), 422, "digest")


# --- runs


def test_a_run_is_accepted_listed_and_found(http: httpx.Client, source: dict[str, Any]) -> None:
    run = submit(http, source, labels={"team": "a"}, priority=3)
    assert (run["status"], run["priority"]) in {("queued", 3), ("running", 3)}
    assert [stage["name"] for stage in run["stages"]] == ["clean"]
    listed = http.get("/v1/runs", params={"pipeline": "p", "label": "team=a"}).json()["runs"]
    assert run["run_id"] in [other["run_id"] for other in listed]
    assert http.get(f"/v1/runs/{run['run_id']}").json()["labels"] == {"team": "a"}


def test_submitting_twice_is_once(http: httpx.Client, source: dict[str, Any]) -> None:
    first = submit(http, source, idempotency_key="k1")
    assert submit(http, source, idempotency_key="k1")["run_id"] == first["run_id"]
    again = http.post(
        "/v1/runs", json={"pipeline": PIPELINE, "params": {"data": source}, "idempotency_key": "k1", "priority": 9}
    )
    problem(again, 409)


def test_pages_go_on_by_cursor(http: httpx.Client, source: dict[str, Any]) -> None:
    for _ in range(3):
        submit(http, source, labels={"page": "1"})
    first = http.get("/v1/runs", params={"limit": 2, "label": "page=1"}).json()
    rest = http.get("/v1/runs", params={"limit": 2, "label": "page=1", "cursor": first["next_cursor"]}).json()
    ids = [run["run_id"] for run in first["runs"] + rest["runs"]]
    assert len(ids) == 3
    assert ids == sorted(ids, reverse=True)


def test_a_plan_shows_the_graph_and_starts_nothing(http: httpx.Client, source: dict[str, Any]) -> None:
    before = http.get("/v1/runs").json()
    graph = http.post("/v1/plan", json={"pipeline": PIPELINE, "params": {"data": "s3://bucket/raw/"}}).json()
    assert [(stage["name"], stage["implied"]) for stage in graph["stages"]] == [("ingest_data", True), ("clean", False)]
    assert http.get("/v1/runs").json() == before


BAD_RUNS = [
    ({"pipeline": {"name": "p", "stages": {"clan": {}}}}, "stages.clan", "did you mean 'clean'"),
    ({"pipeline": {"name": "p", "stages": {}}}, "stages", "at least 1"),
    ({"pipeline": {"name": "P!", "stages": {"clean": {}}}}, "name", "lower-case"),
    ({"pipeline": {"name": "p", "stage": {}}}, "stage", "did you mean 'stages'"),
    ({"pipeline": PIPELINE}, "params.data", "no value"),
    ({"pipeline": PIPELINE, "params": {"data": "rows.csv"}}, "params.data", "upload"),
    ({"pipeline": PIPELINE, "params": {"dta": 1}}, "params.dta", "did you mean 'data'"),
    (
        {"pipeline": PIPELINE, "params": {"data": {"digest": "0" * 64, "type": "source"}}},
        "params.data",
        "Upload the data",
    ),
    ({"pipeline": PIPELINE, "priority": 1000}, "priority", "less than or equal to 100"),
    ({"pipeline": PIPELINE, "run_id": "mine"}, "run_id", "pattern"),
    ({"pipelin": PIPELINE}, "pipelin", "unknown"),
]


@pytest.mark.parametrize(("body", "field", "words"), BAD_RUNS)
def test_a_bad_submission_names_its_field(http: httpx.Client, body: dict[str, Any], field: str, words: str) -> None:
    assert words in problem(http.post("/v1/runs", json=body), 422, field)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_body_that_is_no_object_is_refused(http: httpx.Client, content: bytes) -> None:
    answer = http.post("/v1/runs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "Traceback" not in problem(answer, answer.status_code, answer.json()["field"])


def test_a_large_body_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/runs", json={"pipeline": {"name": "x" * 30_000}})
    assert "larger than 20000 bytes" in problem(answer, 413)
    assert isinstance(errors.from_payload(answer.json()), errors.InvalidInput)
    assert answer.json()["code"] == "too_large"


@pytest.mark.parametrize("path", ["/v1/runs/run_x", "/v1/runs/run_x/events", "/v1/runs/run_x/logs", "/v1/endpoints/x"])
def test_what_is_not_there_is_not_found(http: httpx.Client, path: str) -> None:
    problem(http.get(path), 404, http.get(path).json()["field"])


def test_an_unknown_route_or_method_is_a_problem(http: httpx.Client) -> None:
    assert "There is no /v2/runs" in problem(http.get("/v2/runs"), 404)
    wrong = http.put("/v1/runs")
    problem(wrong, 405)
    assert wrong.json()["code"] == "wrong_method"


# --- events


def test_events_stream_until_the_end_and_resume(http: httpx.Client, line: Line, source: dict[str, Any]) -> None:
    run_id = submit(http, source)["run_id"]
    logs = write_manifest(line.store, "logs", {"log.txt": b"one\ntwo\n"}, meta={})
    dataset = ArtifactRef(digest="d" * 64, type="dataset")
    with http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = (message for message in messages(answer) if "event" in message)
        assert next(stream)["event"] == "run.submitted.v1"
        holder = line.start(run_id, "clean")
        line.bus.signal(f"attempt.{run_id}.progress", progress(run_id, holder.attempt_id))
        line.succeed(run_id, "clean", holder, StageOutputs(artifacts={"dataset": dataset}), logs)
        seen = list(stream)
    numbers = [int(message["id"]) for message in seen if message["event"] != "signal"]
    assert numbers == list(range(2, 2 + len(numbers)))
    assert seen[-1]["event"] == "run.finished.v1"
    assert json.loads(seen[-1]["data"])["data"]["status"] == "succeeded"

    resumed = {"Accept": "text/event-stream", "Last-Event-ID": str(numbers[-1] - 1)}
    last = http.get(f"/v1/runs/{run_id}/events", headers=resumed)
    assert [message["id"] for message in messages(last) if "id" in message] == [str(numbers[-1])]
    done = {"Accept": "text/event-stream", "Last-Event-ID": str(numbers[-1])}
    assert http.get(f"/v1/runs/{run_id}/events", headers=done).status_code == 204

    listed = http.get(f"/v1/runs/{run_id}/events", params={"after": numbers[0]}).json()
    assert [event["seq"] for event in listed] == numbers[1:]
    assert http.get(f"/v1/runs/{run_id}/logs").text == f"=== {holder.attempt_id}\none\ntwo\n"
    assert http.get(f"/v1/runs/{run_id}/logs", params={"stage": "train"}).text == ""


def progress(run_id: str, attempt: str) -> dict[str, Any]:
    return {
        "run_id": run_id, "stage": "clean", "attempt_id": attempt, "kind": "progress", "time": "2026-01-02T03:04:05Z",
        "payload": {"done": 1, "total": 2, "unit": "rows", "values": {}},
    }  # fmt: skip


def test_signals_come_between_without_a_number(http: httpx.Client, line: Line, source: dict[str, Any]) -> None:
    run_id = submit(http, source)["run_id"]
    with http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"}) as answer:
        stream = messages(answer)
        while next(stream).get("event") != "run.submitted.v1":
            pass
        line.bus.signal(f"attempt.{run_id}.progress", progress(run_id, "a"))
        signal = next(message for message in stream if message.get("event") == "signal")
    assert "id" not in signal
    assert json.loads(signal["data"])["payload"]["unit"] == "rows"


def test_a_cancelled_run_ends_and_cannot_be_cancelled_after_success(
    http: httpx.Client, line: Line, source: dict[str, Any]
) -> None:
    run_id = submit(http, source)["run_id"]
    assert http.post(f"/v1/runs/{run_id}/cancel", json={"reason": "enough"}).status_code == 200
    assert http.get(f"/v1/runs/{run_id}", params={"wait_s": 20}).json()["status"] == "cancelled"


def test_the_stream_of_a_retried_run_goes_on_behind_its_first_end(
    http: httpx.Client, line: Line, source: dict[str, Any]
) -> None:
    run_id = submit(http, source)["run_id"]
    holder = line.start(run_id, "clean")
    line.fail(run_id, "clean", holder, ErrorInfo(code="invalid_data", message="sour"))
    assert http.get(f"/v1/runs/{run_id}", params={"wait_s": 20}).json()["status"] == "failed"
    assert http.post(f"/v1/runs/{run_id}/retry").json()["status"] == "queued"
    with http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"}) as answer:
        line.succeed(run_id, "clean", line.start(run_id, "clean"), StageOutputs(), None)
        told = [m["event"] for m in messages(answer) if m.get("event", "").startswith("run.")]
    assert told[1:] == [
        "run.started.v1",
        "run.finished.v1",
        "run.retry_requested.v1",
        "run.retried.v1",
        "run.finished.v1",
    ]


def test_a_retry_that_is_sent_again_does_not_revive_a_run_that_failed_once_more(
    http: httpx.Client, line: Line, source: dict[str, Any]
) -> None:
    run_id = submit(http, source)["run_id"]
    sour = ErrorInfo(code="invalid_data", message="sour")

    def retried(key: str) -> str:
        return str(http.post(f"/v1/runs/{run_id}/retry", headers={"Idempotency-Key": key}).json()["status"])

    def fail() -> str:
        line.fail(run_id, "clean", line.start(run_id, "clean"), sour)
        return str(http.get(f"/v1/runs/{run_id}", params={"wait_s": 20}).json()["status"])

    assert (fail(), retried("a"), fail()) == ("failed", "queued", "failed")
    assert (retried("a"), retried("b")) == ("failed", "queued")


def test_a_run_is_held_and_let_go(http: httpx.Client, line: Line, source: dict[str, Any]) -> None:
    run_id = submit(http, source)["run_id"]
    line.start(run_id, "clean")
    assert http.post(f"/v1/runs/{run_id}/pause", json={"reason": "lunch"}).json()["status"] == "paused"
    assert [r["run_id"] for r in http.get("/v1/runs", params={"status": "paused"}).json()["runs"]] == [run_id]
    assert http.post(f"/v1/runs/{run_id}/resume").json()["status"] == "running"


def test_a_run_is_repeated_from_what_was_written(http: httpx.Client, source: dict[str, Any]) -> None:
    first = submit(http, source, labels={"a": "1"}, seed=5)
    again = http.post(f"/v1/runs/{first['run_id']}/rerun", json={"labels": {"b": "2"}, "priority": 3})
    assert (again.status_code, again.headers["Location"]) == (201, f"/v1/runs/{again.json()['run_id']}")
    view = again.json()
    assert (view["params"], view["labels"], view["priority"]) == (first["params"], {"a": "1", "b": "2"}, 3)
    assert view["origin"]["of"] == first["run_id"]
    url = f"/v1/runs/{first['run_id']}/rerun"
    assert problem(http.post(url, json={"params": {"datum": 1}}), 422, "params.datum")
    assert problem(http.post(url, json={"seed": -1}), 422, "seed")
    assert problem(http.post(url, json={"pipeline": {}}), 422, "pipeline")


@pytest.mark.parametrize("wish", ["cancel", "pause", "resume", "retry", "rerun"])
def test_wishes_about_an_unknown_run_are_not_found(http: httpx.Client, wish: str) -> None:
    assert "no run" in problem(http.post(f"/v1/runs/run_x/{wish}"), 404, "run_id")


def test_a_run_that_goes_on_is_not_retried(http: httpx.Client, line: Line, source: dict[str, Any]) -> None:
    run_id = submit(http, source)["run_id"]
    line.start(run_id, "clean")
    assert "has not ended" in problem(http.post(f"/v1/runs/{run_id}/retry"), 409)


def test_waiting_answers_when_the_time_is_over(http: httpx.Client, source: dict[str, Any]) -> None:
    stuck = {**PIPELINE, "stages": {"clean": {"inputs": {"raw": "$params.data"}, "resources": {"gpu": 1}}}}
    run = http.post("/v1/runs", json={"pipeline": stuck, "params": {"data": source}}).json()
    answer = http.get(f"/v1/runs/{run['run_id']}", params={"wait_s": 0.5})
    assert answer.json()["status"] in ("queued", "running")
    assert 0.4 < answer.elapsed.total_seconds() < 10


# --- who may call, and starting


def test_other_hosts_and_origins_are_refused(http: httpx.Client) -> None:
    assert "MILLRACE_GATEWAY_HOSTS" in problem(http.get("/healthz", headers={"Host": "evil.example"}), 403)
    assert "may not call" in problem(http.get("/healthz", headers={"Origin": "http://evil.example"}), 403)
    own = str(http.base_url).rstrip("/")
    assert http.get("/healthz", headers={"Origin": own}).status_code == 200


def failing_start(home: Path, **variables: str) -> str:
    done = subprocess.run(
        COMMAND, env=gateway_environment(home, **variables), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode > 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"Port {port} of 127.0.0.1 is taken. Stop what uses it" in failing_start(
            tmp_path, MILLRACE_GATEWAY_PORT=port
        )


def test_a_wrong_setting_is_a_clear_error(tmp_path: Path) -> None:
    assert "MILLRACE_GATEWAY_PORT" in failing_start(tmp_path, MILLRACE_GATEWAY_PORT="http")
    assert "not-an-address" in failing_start(tmp_path, MILLRACE_GATEWAY_HOST="not-an-address")


def test_a_stop_ends_open_streams_and_withdraws_the_announcement(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as url:
        http = httpx.Client(base_url=url)
        ref = http.post("/v1/datasets", params={"filename": "rows.csv"}, content=CSV).json()
        run_id = submit(http, ref)["run_id"]
        stream = http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"})
        answer = stream.__enter__()
        assert next(messages(answer))["retry"] == "1000"
    assert not (tmp_path / "run" / "gateway.json").exists()
    http.close()


def test_a_limit_is_set_listed_and_dropped_by_its_key(http: httpx.Client) -> None:
    key = "/v1/limits/gpu%3A0%2Fhost"
    assert http.put(key, json={"max": 0}).json() == {
        "key": "gpu:0/host", "max": 0, "ruled": True, "held": 0, "waiting": 0,
    }  # fmt: skip
    assert [view["key"] for view in http.get("/v1/limits").json()] == ["gpu:0/host"]
    assert http.delete(key).json()["max"] is None
    assert http.delete(key).json() == http.delete(key).json()
    assert http.get("/v1/limits").json() == []


def test_a_limit_that_cannot_be_is_refused_by_its_field(http: httpx.Client) -> None:
    problem(http.put("/v1/limits/gpu:0", json={"max": -1}), 422, "max")
    problem(http.put("/v1/limits/gpu:0", json={}), 422, "max")
    problem(http.put("/v1/limits/-x", json={"max": 1}), 422, "key")


def test_queues_name_the_places_of_every_class(http: httpx.Client, source: dict[str, Any], line: Line) -> None:
    run_id = submit(http, source)["run_id"]
    line.start(run_id, "clean")
    queues = {(q["service"], q["resource_class"]): q for q in http.get("/v1/queues").json()["queues"]}
    assert queues["cleaning", "cpu"]["slots"] == 8
    assert queues["cleaning", "cpu"]["dispatched"] + queues["cleaning", "cpu"]["running"] >= 1
    http.post(f"/v1/runs/{run_id}/cancel")
