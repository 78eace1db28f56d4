"""The model server on the embedded adapters: it follows the desired state and answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import tiny_models
from millrace.bus.connect import connect
from millrace.contracts.artifacts import ArtifactRef, Ref
from millrace.contracts.events import Event
from millrace_deployment.http import MAX_BODY_BYTES
from serving import Stage, running, wait_for


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for the tests that only ask; each uses endpoints of its own."""
    with running(tmp_path_factory.mktemp("home")) as running_stage:
        root = tmp_path_factory.mktemp("models")
        store = running_stage.store
        for name, write in (
            ("numbers", tiny_models.write_regression),
            ("signs", tiny_models.write_classifier),
            ("letters", tiny_models.write_generator),
        ):
            running_stage.serve(name, tiny_models.store_model(store, write(root / name)))
        yield running_stage


def regression(stage: Stage, root: Path, *, scale: float) -> ArtifactRef:
    return tiny_models.store_model(stage.store, tiny_models.write_regression(root / f"model-{scale}", scale=scale))


def test_rows_are_answered_with_the_release_and_the_model_that_did(stage: Stage) -> None:
    answer = stage.predict("numbers", {"x": 1.5}, {"x": 2, "bonus": 3}).json()
    assert answer["predictions"] == [{"value": 1.5}, {"value": 5.0}]
    assert (answer["endpoint"], answer["release"]) == ("numbers", 1)
    assert answer["model"] == stage.server.registry.find("numbers").digest


def test_a_classifier_answers_probabilities_by_label(stage: Stage) -> None:
    (answer,) = stage.predict("signs", {"x": 3.0}).json()["predictions"]
    assert answer["label"] == "plus"
    assert answer["probabilities"]["plus"] == pytest.approx(1 / (1 + 2.718281828**-6), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"{", "body", "not JSON"),
        (b"[]", "body", "mapping"),
        (b"{}", "rows", "required"),
        (b'{"rows": []}', "rows", "at least 1"),
        (b'{"rows": [{"x": 1}], "row": 1}', "row", "unknown"),
        (b'{"rows": [1]}', "rows[0]", "object"),
        (b'{"rows": [{"x": 1}, {"bonus": 1}]}', "rows[1].x", "missing"),
        (b'{"rows": [{"x": 1}, {"x": "a"}]}', "rows[1].x", "number"),
        (b'{"rows": [{"x": 1, "bonus": 1.5}]}', "rows[0].bonus", "whole number"),
        (b'{"rows": [{"x": 1, "bonas": 1}]}', "rows[0].bonas", "bonus"),
        (b'{"rows": [{"x": true}]}', "rows[0].x", "number"),
        (b'{"rows": [{"x": null}]}', "rows[0].x", "null"),
    ],
)
def test_a_wrong_request_is_told_field_and_row(stage: Stage, body: bytes, field: str, words: str) -> None:
    answer = stage.client.post("/v1/endpoints/numbers/predict", content=body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["field"]) == (422, field)
    assert words in problem["detail"] + problem["remedy"]


def test_an_unknown_endpoint_is_told_the_nearest(stage: Stage) -> None:
    answer = stage.predict("number", {"x": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "'numbers'" in answer.json()["detail"]


def test_too_many_rows_and_too_many_bytes_are_refused(stage: Stage) -> None:
    many = stage.predict("numbers", *[{"x": 1}] * 4097)
    assert (many.status_code, many.json()["field"]) == (422, "rows")
    large = stage.client.post("/v1/endpoints/numbers/predict", content=b" " * (MAX_BODY_BYTES + 1))
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_a_body_that_lies_about_its_length_is_refused_while_it_comes(stage: Stage) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 2**20 + 2):
            yield b" " * 2**20

    answer = stage.client.post("/v1/endpoints/numbers/predict", content=endless())
    assert answer.status_code == 413


def test_a_wrong_path_and_a_wrong_method_are_told_apart(stage: Stage) -> None:
    assert stage.client.get("/v1/nothing").status_code == 404
    wrong = stage.client.get("/v1/endpoints/numbers/predict")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "wrong_method")


def test_concurrent_callers_get_their_own_rows(stage: Stage) -> None:
    def ask(caller: int) -> bool:
        with httpx.Client(base_url=stage.server.url, timeout=20) as client:
            for turn in range(20):
                xs = [caller * 100 + turn + i / 4 for i in range(1 + caller % 3)]
                rows = [{"x": x} for x in xs] if (caller + turn) % 7 else [{"x": "fault"}]
                answer = client.post("/v1/endpoints/numbers/predict", json={"rows": rows})
                if answer.status_code == 422:
                    assert rows == [{"x": "fault"}]
                else:
                    assert answer.json()["predictions"] == [{"value": x} for x in xs]
        return True

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(ask, range(16)))


def test_the_open_inference_protocol_answers_columns_as_tensors(stage: Stage) -> None:
    assert stage.client.get("/v2/health/ready").status_code == 200
    described = stage.client.get("/v2/models/signs").json()
    assert described["inputs"][0] == {"name": "x", "datatype": "FP64", "shape": [-1]}
    request = {
        "id": "42",
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, -1.0]},
            {"name": "bonus", "shape": [2], "datatype": "INT64", "data": [0, None]},
        ],
        "outputs": [{"name": "label"}, {"name": "probabilities"}],
    }
    answer = stage.client.post("/v2/models/signs/infer", json=request).json()
    label, probabilities = answer["outputs"]
    assert (answer["id"], answer["model_version"]) == ("42", "1")
    assert (label["datatype"], label["data"]) == ("BYTES", ["plus", "minus"])
    assert (probabilities["shape"], len(probabilities["data"])) == ([2, 2], 4)
    assert probabilities["data"][0] == pytest.approx(probabilities["data"][3])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "z"}, "inputs[0].name"),
        ({"shape": [3]}, "inputs[0].data"),
        ({"shape": [2, 2], "data": [1, 2, 3, 4]}, "inputs[0].shape"),
        ({"datatype": "FP128"}, "inputs[0].datatype"),
        ({"data": [1, "a"]}, "rows[1].x"),
    ],
)
def test_a_wrong_tensor_is_told_its_field(stage: Stage, change: dict[str, object], field: str) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0], **change}
    answer = stage.client.post("/v2/models/numbers/infer", json={"inputs": [tensor]})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_language_model_generates_whole_or_in_pieces(stage: Stage) -> None:
    request = {"prompt": "a", "max_tokens": 5, "temperature": 0}
    whole = stage.client.post("/v1/endpoints/letters/generate", json=request).json()
    assert (whole["text"], whole["num_tokens"], whole["finish_reason"]) == ("bcabc", 5, "length")
    with stage.client.stream("POST", "/v1/endpoints/letters/generate", json={**request, "stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events = [part.split("\n") for part in answer.read().decode().strip().split("\n\n")]
    assert [name for name, _ in events] == ["event: text"] * 5 + ["event: done"]
    assert json.loads(events[-1][1].removeprefix("data: ")) == whole


def test_text_and_rows_are_not_confused(stage: Stage) -> None:
    rows = stage.predict("letters", {"text": "a"})
    assert (rows.status_code, "/generate" in rows.json()["remedy"]) == (422, True)
    text = stage.client.post("/v1/endpoints/numbers/generate", json={"prompt": "a"})
    assert (text.status_code, "/predict" in text.json()["remedy"]) == (422, True)


def test_who_hangs_up_frees_the_generator(stage: Stage) -> None:
    request = {"prompt": "a", "max_tokens": 4096, "stream": True}
    for _ in range(4):  # more than may generate at once
        with stage.client.stream("POST", "/v1/endpoints/letters/generate", json=request) as answer:
            next(answer.iter_bytes())
    began = time.monotonic()
    quick = stage.client.post("/v1/endpoints/letters/generate", json={"prompt": "a", "max_tokens": 1})
    assert quick.status_code == 200
    assert time.monotonic() - began < 5


def test_metrics_count_requests_and_rows(stage: Stage) -> None:
    stage.predict("numbers", {"x": 1})
    text = stage.client.get("/metrics").text
    assert 'millrace_requests_total{endpoint="numbers",route="predict",status="200"}' in text
    assert 'millrace_batch_rows_count{endpoint="numbers"}' in text
    stage.predict("no-such-endpoint", {"x": 1})
    assert "no-such-endpoint" not in stage.client.get("/metrics").text


def test_endpoints_are_listed_with_their_state(stage: Stage) -> None:
    views = {view["name"]: view for view in stage.client.get("/v1/endpoints").json()}
    assert views["numbers"]["status"] == "ready"
    assert views["numbers"]["urls"] == [stage.server.url]
    assert stage.client.get("/v1/endpoints/numbers").json() == views["numbers"]


def test_a_swap_loses_no_request_and_an_older_generation_is_ignored(stage: Stage, tmp_path: Path) -> None:
    stage.serve("swapped", regression(stage, tmp_path, scale=1.0), generation=1)
    stop = threading.Event()
    answers: list[tuple[int, int, list[dict[str, float]]]] = []

    def ask() -> None:
        with httpx.Client(base_url=stage.server.url, timeout=20) as client:
            while not stop.is_set():
                answer = client.post("/v1/endpoints/swapped/predict", json={"rows": [{"x": 1}]})
                answers.append((answer.status_code, answer.json()["release"], answer.json()["predictions"]))

    with ThreadPoolExecutor(4) as callers:
        asking = [callers.submit(ask) for _ in range(4)]
        while not answers and not any(future.done() for future in asking):
            time.sleep(0.01)
        for generation in range(2, 8):
            stage.serve("swapped", regression(stage, tmp_path, scale=float(generation)), generation=generation)
        stop.set()
        for future in asking:
            future.result()
    assert {status for status, _, _ in answers} == {200}
    assert all(predictions == [{"value": float(release)}] for _, release, predictions in answers)
    assert {release for _, release, _ in answers} >= {1, 6}


def test_a_model_that_does_not_load_leaves_the_old_one_serving(stage: Stage, tmp_path: Path) -> None:
    stage.serve("stubborn", regression(stage, tmp_path, scale=1.0))
    package = tiny_models.write_regression(tmp_path / "broken")
    (package / "programs" / "fp32.onnx").write_bytes(b"not a program")
    stage.desire("stubborn", tiny_models.store_model(stage.store, package), generation=2)
    report = stage.reported("stubborn", 2, "failed")
    assert report.error is not None
    assert "fp32.onnx" in report.error.message
    answer = stage.predict("stubborn", {"x": 1}).json()
    assert (answer["release"], answer["predictions"]) == (1, [{"value": 1.0}])
    stage.serve("stubborn", regression(stage, tmp_path, scale=3.0), generation=3)
    assert stage.predict("stubborn", {"x": 1}).json()["predictions"] == [{"value": 3.0}]


def test_release_zero_unloads(stage: Stage, tmp_path: Path) -> None:
    stage.serve("brief", regression(stage, tmp_path, scale=1.0))
    stage.desire("brief", None, generation=2)
    stage.reported("brief", 2, "stopped")
    answer = stage.predict("brief", {"x": 1})
    assert (answer.status_code, "stopped" in answer.json()["detail"]) == (404, True)


def test_a_lost_signal_is_made_up_for(stage: Stage, tmp_path: Path) -> None:
    stage.desire("quiet", regression(stage, tmp_path, scale=1.0), generation=1, signal=False)
    stage.reported("quiet", 1, "ready")
    assert stage.predict("quiet", {"x": 2}).status_code == 200


def test_a_ref_that_is_no_endpoint_harms_no_other(stage: Stage, tmp_path: Path) -> None:
    stage.store.write_ref("endpoints/aaa", Ref(target={"nonsense": 1}, generation=1, nonce="n"), expected=None)
    stage.serve("zzz", regression(stage, tmp_path, scale=1.0))
    assert stage.predict("zzz", {"x": 2}).status_code == 200


def test_a_server_that_starts_late_serves_what_is_desired(tmp_path: Path) -> None:
    with running(tmp_path / "home") as first:
        first.serve("numbers", regression(first, tmp_path, scale=2.0))
    with running(tmp_path / "home") as second:
        wait_for(lambda: second.predict("numbers", {"x": 1}).status_code == 200, what="the endpoint")
        assert second.predict("numbers", {"x": 1}).json()["predictions"] == [{"value": 2.0}]


def test_a_stopping_server_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "home") as stage:
        stage.serve("numbers", regression(stage, tmp_path, scale=2.0))
        stage.server.stop()
        assert stage.reported("numbers", 1, "stopped").url == stage.server.url
        wait_for(lambda: not (stage.settings.home / "run" / "serve.json").exists(), what="its address to go")


def test_without_a_broker_it_serves_all_the_same(tmp_path: Path) -> None:
    nobody = connect("amqp://guest:guest@127.0.0.1:9//", publish_timeout_s=0.2)
    with running(tmp_path / "home", bus=nobody) as stage:
        stage.desire("numbers", regression(stage, tmp_path, scale=2.0), generation=1)
        wait_for(lambda: stage.predict("numbers", {"x": 1}).status_code == 200, what="the endpoint")
    nobody.close()


def test_reports_wait_for_the_broker_to_return(tmp_path: Path) -> None:
    reports: list[Event] = []
    directory, stop = tmp_path / "broker", threading.Event()
    directory.write_text("in the broker's place")
    remote = connect(f"embedded://{directory}", publish_timeout_s=0.2)
    with running(tmp_path / "home", bus=remote) as stage:
        stage.desire("numbers", regression(stage, tmp_path, scale=2.0), generation=1)
        wait_for(lambda: stage.predict("numbers", {"x": 1}).status_code == 200, what="the endpoint")
        directory.unlink()
        connect(f"embedded://{directory}").declare("conductor", ["endpoint.reported.#"])
        subscriber = threading.Thread(
            target=remote.subscribe, args=("conductor", ["endpoint.reported.#"], reports.extend), kwargs={"stop": stop}
        )
        subscriber.start()
        try:
            wait_for(lambda: reports, what="the report")
        finally:
            stop.set()
            subscriber.join(timeout=20)
    assert reports[0].data["status"] == "ready"
    remote.close()
