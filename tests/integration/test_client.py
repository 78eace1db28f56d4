"""The SDK against a real gateway: runs, results, errors, endpoints, and a gateway that is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from gateways import COMMAND, Line, announced_url, gateway_environment, running_gateway
from millrace import errors
from millrace.client import AsyncClient, Client, Pipeline, stages
from millrace.client.async_runs import AsyncRun
from millrace.client.runs import Run
from millrace.client.submission import Submission
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import EndpointReported, ErrorInfo, StageOutputs, make_event
from millrace.ledger.endpoints import set_desired
from millrace.settings import Settings
from millrace.store.artifacts import write_manifest

DATASET = ArtifactRef(digest="d" * 64, type="dataset")
CLEANED = StageOutputs(artifacts={"dataset": DATASET})
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def line(home: Path) -> Iterator[Line]:
    with Line(Settings(home=home)) as line:
        yield line


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with running_gateway(home, MILLRACE_GATEWAY_PROXY_TIMEOUT_S="2") as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("a,label\n1,x\n")
    return path


def work_off(line: Line, run: Run | AsyncRun, stage: str = "clean") -> None:
    """Let the stand-in worker finish a run's stage."""
    line.succeed(run.id, stage, line.start(run.id, stage), CLEANED, logs=None)


# --- runs


def test_a_run_is_followed_to_its_typed_result(client: Client, line: Line, rows: Path) -> None:
    run = client.submit(stages.Clean(target="label"), data=rows, labels={"team": "a"})
    assert run.view.labels == {"team": "a"}
    worker = threading.Thread(target=work_off, args=(line, run))
    worker.start()
    types = [event.type for event in run.follow()]
    worker.join()
    assert (types[0], types[-1]) == ("run.submitted.v1", "run.finished.v1")
    assert run.result(timeout_s=LIMIT_S).dataset == DATASET
    assert client.run(run.id).status == "succeeded"
    assert [event.seq for event in run.events()] == list(range(1, len(types) + 1))
    assert [event.seq for event in run.follow(after=2)] == list(range(3, len(types) + 1))


def test_a_failed_run_raises_one_typed_error(client: Client, line: Line, rows: Path) -> None:
    run = client.submit(stages.Clean(), data=rows)
    error = ErrorInfo(code="invalid_data", message="Row 3 has no label.", remedy="Fill it in.")
    line.fail(run.id, "clean", line.start(run.id, "clean"), error)
    with pytest.raises(errors.RunFailed, match=r"Row 3 has no label\. Fill it in") as caught:
        run.wait(timeout_s=LIMIT_S)
    assert (caught.value.stage, caught.value.cause, caught.value.status) == ("clean", "invalid_data", "failed")
    assert run.wait_end().status == "failed"


def test_waiting_has_a_limit_and_cancelling_an_end(client: Client, line: Line, rows: Path) -> None:
    run = client.submit(stages.Clean(resources={"gpu": 1}), data=rows)
    with pytest.raises(errors.DeadlineExceeded, match="goes on"):
        run.wait(timeout_s=0.3)
    run.cancel(reason="enough")
    with pytest.raises(errors.RunFailed, match="cancelled"):
        run.wait(timeout_s=LIMIT_S)


def test_an_idempotency_key_starts_one_run(client: Client, rows: Path) -> None:
    first = client.submit(stages.Clean(), data=rows, idempotency_key="nightly-1")
    assert client.submit(stages.Clean(), data=rows, idempotency_key="nightly-1").id == first.id
    with pytest.raises(errors.Conflict):
        client.submit(stages.Clean(target="label"), data=rows, idempotency_key="nightly-1")


def test_many_are_submitted_and_listed(client: Client, rows: Path) -> None:
    many = [Submission(stages.Clean(), data=rows, labels={"many": str(n)}, priority=n) for n in range(3)]
    runs = client.submit_many(many)
    assert len({run.id for run in runs}) == 3
    page = client.runs(pipeline="clean", label=("many", "1"))
    assert [view.run_id for view in page.runs] == [runs[1].id]


def test_a_plan_shows_what_would_run(client: Client) -> None:
    graph = client.plan(Pipeline("p", stages=[stages.Clean(), stages.Train()]), data="s3://b/x")
    assert [(stage.name, stage.implied) for stage in graph.stages] == [
        ("ingest_data", True), ("clean", False), ("train", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "field"),
    [(stages.Clean(target=3), "stages.clean.with.target"), (stages.Stage("clene"), "stages.clene")],  # type: ignore[arg-type]
)
def test_a_mistake_is_named_by_its_field(client: Client, rows: Path, stage: stages.Stage, field: str) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        client.submit(Pipeline("p", params={"data": "dataset"}, stages=[stage]), data=rows)
    assert caught.value.field.startswith(field)


def test_what_is_not_there_is_not_found(client: Client) -> None:
    for ask in (client.run, client.endpoint, client.artifact):
        with pytest.raises(errors.MillraceError) as caught:
            ask("0" * 64)
        assert isinstance(caught.value, errors.NotFound | errors.InvalidInput)


def test_no_gateway_is_unavailable_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(errors.Unavailable, match="millrace up"):
        client.models()
    with Client(f"http://user:hidden@127.0.0.1:{port}") as client, pytest.raises(errors.Unavailable) as caught:
        client.models()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8470", "http://[::1", "ftp://host"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with Client(url) as client, pytest.raises(errors.InvalidInput, match="URL"):
        client.models()


def test_a_server_that_is_no_gateway_is_named() -> None:
    with serving({"/v1/models": (200, {"hello": "world"})}) as url, Client(url) as client:
        with pytest.raises(errors.MillraceError, match="same version"):
            client.models()
        with pytest.raises(errors.MillraceError, match="404 without saying why"):
            client.endpoints()


def test_following_survives_a_killed_gateway(home: Path, line: Line, rows: Path) -> None:
    """SIGKILL between two events: the follower comes back to the next gateway, and every event is seen once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = gateway_environment(home, MILLRACE_GATEWAY_PORT=port)

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
        announced_url(home, process)
        return process

    gateway = start()
    with Client(f"http://127.0.0.1:{port}") as client:
        run = client.submit(stages.Clean(), data=rows)
        seen = []
        for event in run.follow():
            seen.append(event.seq)
            if event.type == "stage.started.v1":
                gateway.kill()
                gateway.communicate()
                gateway = start()
                work_off(line, run)
        assert event.type == "run.finished.v1"
        assert seen == list(range(1, len(seen) + 1))
    gateway.terminate()
    gateway.communicate(timeout=20)


# --- artifacts


def test_an_artifact_downloads_verified(client: Client, line: Line, tmp_path: Path) -> None:
    ref = write_manifest(line.store, "report", {"a.json": b"{}", "deep/b.bin": b"\0" * 3_000_000}, meta={})
    assert client.download(ref, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "a.json").read_bytes() == b"{}"
    assert (tmp_path / "out" / "deep" / "b.bin").stat().st_size == 3_000_000


def test_logs_come_line_by_line(client: Client, line: Line, rows: Path) -> None:
    run = client.submit(stages.Clean(), data=rows)
    logs = write_manifest(line.store, "logs", {"log.txt": b"one\ntwo\n"}, meta={})
    line.succeed(run.id, "clean", line.start(run.id, "clean"), CLEANED, logs)
    run.wait(timeout_s=LIMIT_S)
    assert list(run.logs("clean"))[1:] == ["one", "two"]


# --- endpoints


class Answers(BaseHTTPRequestHandler):
    """A server of fixed answers, for what a gateway forwards to."""

    answers: ClassVar[dict[str, tuple[int, object]]] = {}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, body = self.answers.get(self.path, (404, {}))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST  # noqa: N815  # the name is http.server's

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answers: dict[str, tuple[int, object]]) -> Iterator[str]:
    handler = type("Handler", (Answers,), {"answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def release(line: Line, name: str, url: str, *, server: str) -> None:
    """Have an endpoint, and a server that reports to be ready at a URL."""
    model = ArtifactRef(digest="b" * 64, type="model")
    ledger = line.conductor.database
    if not ledger.read("SELECT 1 FROM endpoints WHERE name = ?", (name,)):
        ledger.transact(
            lambda tx: set_desired(
                tx, "default", name, release=1, model=model, run_id="", owner=line.conductor.id, now=time.time()
            )
        )
    report = EndpointReported(name=name, generation=1, server=server, url=url, status="ready")
    line.bus.publish([make_event(report, source=f"server/{server}", subject=f"endpoint/{name}")])


def ready(client: Client, name: str, num_urls: int = 1) -> None:
    deadline = time.monotonic() + LIMIT_S
    while len(client.endpoint(name).view.urls) < num_urls:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_endpoint_answers_and_a_dead_server_is_passed_over(client: Client, line: Line) -> None:
    told = {"endpoint": "e", "release": 1, "model": "b" * 64}
    answers: dict[str, tuple[int, object]] = {
        "/v1/endpoints/e/predict": (200, {**told, "predictions": [{"label": "x"}]}),
        "/v1/endpoints/e/generate": (200, {**told, "text": "upon a time", "num_tokens": 3, "finish_reason": "stop"}),
    }
    with serving(answers) as url:
        release(line, "e", "http://127.0.0.1:9", server="dead")
        release(line, "e", url, server="alive")
        ready(client, "e", 2)
        endpoint = client.endpoint("e")
        assert [endpoint.predict([{"text": "t"}]) for _ in range(4)] == [[{"label": "x"}]] * 4
        assert endpoint.generate("Once", max_tokens=3) == "upon a time"
        assert "e" in [view.name for view in client.endpoints()]


def test_what_a_server_refuses_reaches_the_caller_typed(client: Client, line: Line) -> None:
    refusal = {"title": "", "status": 422, "detail": "No column 'txt'.", "code": "invalid_data", "field": "rows.0.txt"}
    with serving({"/v1/endpoints/picky/predict": (422, refusal)}) as url:
        release(line, "picky", url, server="s")
        ready(client, "picky")
        with pytest.raises(errors.InvalidData, match="No column 'txt'") as caught:
            client.endpoint("picky").predict([{"txt": "t"}])
    assert caught.value.field == "rows.0.txt"


def test_rows_that_are_no_rows_are_refused_before_they_are_sent(client: Client, line: Line) -> None:
    release(line, "idle", "http://127.0.0.1:9", server="s")
    endpoint = client.endpoint("idle")
    with pytest.raises(errors.InvalidData):
        endpoint.predict([])
    with pytest.raises(errors.InvalidData):
        endpoint.predict([{"a": object()}])
    with pytest.raises(errors.InvalidData, match="less than or equal to 4096"):
        endpoint.generate("x", max_tokens=10**6)


def test_an_endpoint_without_a_server_says_so(client: Client, line: Line) -> None:
    release(line, "lonely", "http://127.0.0.1:9", server="s")
    ready(client, "lonely")
    with pytest.raises(errors.Unavailable, match="No server answers for endpoint 'lonely'"):
        client.endpoint("lonely").predict([{"a": 1}])
    assert client.endpoint("lonely").stop().status == "stopped"
    with pytest.raises(errors.Conflict, match="is stopped"):
        client.endpoint("lonely").predict([{"a": 1}])


# --- with await


def test_the_async_client_does_the_same(url: str, line: Line, rows: Path) -> None:
    async def use() -> list[str]:
        async with AsyncClient(url) as client:
            run = await client.submit(stages.Clean(), data=rows)
            working = asyncio.create_task(asyncio.to_thread(work_off, line, run))
            types = [event.type async for event in run.follow()]
            await working
            assert (await run.result(timeout_s=LIMIT_S)).dataset == DATASET
            assert [line async for line in run.logs()] == []
            assert (await (await client.run(run.id)).refresh()).status == "succeeded"
            failing = await client.submit_many([Submission(stages.Clean(), data=rows)])
            await failing[0].cancel()
            with pytest.raises(errors.RunFailed):
                await failing[0].wait(timeout_s=LIMIT_S)
            with pytest.raises(errors.NotFound):
                await client.endpoint("nowhere")
            return types

    assert asyncio.run(use())[-1] == "run.finished.v1"
