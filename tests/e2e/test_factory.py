"""The whole house from a user's side: pipelines unedited on both stacks, jobs from a program, batches, cancel, restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from millrace import Client, Pipeline, errors
from millrace.client.submission import Submission
from millrace.contracts.views import EventView, SignalView
from millrace.testing.factory import Factory, environment_of, running_factory

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def noop(*names: str, **config: object) -> Pipeline:
    """A chain of no-op stages; `config` is that of each."""
    stages = {
        n: {"kind": "noop", "needs": [p] if p else [], "with": config}
        for p, n in zip(("", *names), names, strict=False)
    }
    return Pipeline.from_dict({"api": "millrace/v1", "name": "noop", "stages": stages})


def example(name: str) -> Path:
    """The example's pipeline; its data is made if it is missing."""
    folder = EXAMPLES / name
    if not list(folder.glob("data/*.parquet")):
        subprocess.run([sys.executable, str(folder / "make_data.py")], check=True, cwd=ROOT)
    return folder / "pipeline.yaml"


@pytest.fixture(scope="module", params=["embedded", pytest.param("production", marks=pytest.mark.servers)])
def factory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """One factory a stack for the whole module."""
    home = tmp_path_factory.mktemp("factory")
    settings = request.getfixturevalue("stack_settings_of")(request.param, home)
    with running_factory(environment_of(settings)) as factory:
        yield factory


@pytest.mark.timeout(240)
def test_an_example_on_a_table_goes_from_data_to_a_live_endpoint(factory: Factory, tmp_path: Path) -> None:
    goes_from_data_to_a_live_endpoint(factory, "tabular", tmp_path)


@pytest.mark.timeout(240)
def test_an_example_on_images_goes_the_same_way(shared_factory: Factory, tmp_path: Path) -> None:
    goes_from_data_to_a_live_endpoint(shared_factory, "digits", tmp_path)


def goes_from_data_to_a_live_endpoint(factory: Factory, name: str, folder: Path) -> None:
    run = factory.client.submit(Pipeline.load(example(name)))
    result = run.result(timeout_s=200)
    assert [s.status for s in result.view.stages] == ["succeeded"] * 6
    assert result.verdict == "passed"
    sample = result.stages["deploy"].summary["sample_request"]["rows"]
    answers = result.endpoint.predict(sample)
    assert len(answers) == len(sample)
    assert all(0.99 < sum(a["probabilities"].values()) < 1.01 for a in answers)

    data = next((EXAMPLES / name / "data").glob("*.parquet"))
    written = factory.client.batch(name, data, out=folder / "out.parquet", timeout_s=120)
    predictions = pq.read_table(written)
    rows = pq.read_table(data)
    assert predictions.num_rows == rows.num_rows
    ordinals = [int(row_id.rsplit("-", 1)[1]) for row_id in predictions["row_id"].to_pylist()]
    assert ordinals == list(range(rows.num_rows))


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "gate"), [("docstrings", "accuracy >= 0.01"), ("pydoc_gpt", "bits_per_character <= 9")]
)
def test_an_example_on_text_goes_the_same_way(shared_factory: Factory, name: str, gate: str, tmp_path: Path) -> None:
    """On a part of its data, for seconds: how well it learns is the benchmark's to say."""
    params = {"max_seconds": 4.0, "gate": gate}
    run = shared_factory.client.submit(Pipeline.load(example(name)), data=_part_of(name, tmp_path), params=params)
    result = run.result(timeout_s=220)
    if name == "docstrings":
        assert result.endpoint.predict([{"text": "Return a new event loop."}])[0]["label"]
    else:
        assert len(result.endpoint.generate("The ", max_tokens=20, seed=1)) > 0


def _part_of(name: str, folder: Path) -> Path:
    """A fifth of an example's rows, spread over all of them."""
    rows = pq.read_table(next((EXAMPLES / name / "data").glob("*.parquet")))
    part = folder / f"{name}.parquet"
    pq.write_table(rows.take(list(range(0, rows.num_rows, 5))), part)
    return part


def test_events_are_followed_in_order_with_progress_between(factory: Factory) -> None:
    run = factory.client.submit(noop("a", "b", sleep_s=0.5))
    messages = list(run.follow(signals=True))
    events = [m for m in messages if isinstance(m, EventView)]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert [e.type for e in events if e.type.startswith("run.")] == [
        "run.submitted.v1",
        "run.started.v1",
        "run.finished.v1",
    ]
    assert any(isinstance(m, SignalView) and m.kind == "progress" for m in messages)
    assert [e.seq for e in run.follow(after=events[3].seq)] == [e.seq for e in events[4:]]


def test_a_plan_of_many_tasks_is_merged_in_order(factory: Factory) -> None:
    view = factory.client.submit(noop("a", num_tasks=40)).wait(timeout_s=60)
    outputs = view.stages[0].outputs
    assert outputs is not None
    assert outputs.summary == {"tasks": 40, "in_order": True}
    assert view.stages[0].num_done == 40


def test_a_merge_may_plan_another_round(factory: Factory) -> None:
    view = factory.client.submit(noop("a", num_tasks=5, num_rounds=3)).wait(timeout_s=60)
    stage = view.stages[0]
    assert stage.outputs is not None
    assert stage.outputs.summary == {"tasks": 5, "in_order": True}
    assert stage.attempts == 1 + 3 * (5 + 1)


def test_a_failure_says_stage_cause_and_remedy(factory: Factory) -> None:
    run = factory.client.submit(noop("a", "b", fail="the data is sour"))
    with pytest.raises(errors.RunFailed, match="the data is sour") as caught:
        run.wait(timeout_s=60)
    assert (caught.value.stage, caught.value.cause, caught.value.status) == ("a", "invalid_data", "failed")
    assert caught.value.remedy
    assert [s.status for s in run.refresh().stages] == ["failed", "skipped"]


def test_cancel_reaches_a_running_child(factory: Factory) -> None:
    run = factory.client.submit(noop("a", sleep_s=60.0))
    while run.refresh().stages[0].attempts == 0 or not any(e.type == "attempt.started.v1" for e in run.events()):
        time.sleep(0.1)
    begin = time.monotonic()
    run.cancel(reason="enough")
    assert run.wait_end(timeout_s=10).status == "cancelled"
    assert factory.client.submit(noop("a")).wait(timeout_s=20).status == "succeeded"
    assert time.monotonic() - begin < 20


def test_submitting_twice_under_one_key_is_one_run(factory: Factory) -> None:
    first = factory.client.submit(noop("a"), idempotency_key="k")
    assert factory.client.submit(noop("a"), idempotency_key="k").id == first.id
    with pytest.raises(errors.Conflict):
        factory.client.submit(noop("b"), idempotency_key="k")


def test_many_runs_at_once_all_succeed(factory: Factory) -> None:
    runs = factory.client.submit_many([Submission(noop("a", "b", "c")) for _ in range(20)])
    assert [run.wait(timeout_s=120).status for run in runs] == ["succeeded"] * 20


def test_a_condition_reads_another_stages_metric(factory: Factory) -> None:
    pipeline = Pipeline.from_dict(
        {
            "api": "millrace/v1",
            "name": "conditional",
            "stages": {
                "a": {"kind": "noop", "with": {"metric": 0.7}},
                "low": {"kind": "noop", "when": "a.value < 0.5"},
                "high": {"kind": "noop", "when": "a.value > 0.5"},
            },
        }
    )
    view = factory.client.submit(pipeline).wait(timeout_s=60)
    assert {s.name: s.status for s in view.stages} == {"a": "succeeded", "low": "skipped", "high": "succeeded"}


def test_an_endpoint_that_is_stopped_says_so(factory: Factory) -> None:
    endpoint = factory.client.endpoint("tabular")
    endpoint.stop()
    with pytest.raises(errors.MillraceError):
        endpoint.predict([{"x": 1}])


def test_runs_survive_the_factory_and_go_on_at_the_next_start(tmp_path: Path) -> None:
    environment = {"MILLRACE_HOME": str(tmp_path / "home"), "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0"}
    with running_factory(environment) as factory:
        run_id = factory.client.submit(noop("a", "b", "c", sleep_s=2.0)).id
        time.sleep(1.2)
    command = [sys.executable, "-m", "millrace.cli", "status", run_id]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    assert "No factory runs here, so it rests." in told.stderr
    with running_factory(environment) as factory:
        assert factory.client.run(run_id).wait(timeout_s=60).status == "succeeded"


def test_the_command_line_answers_in_json(factory: Factory) -> None:
    environment = {**dict(factory.environment), "MILLRACE_URL": factory.client.url, "PATH": "/usr/bin:/bin"}

    def cli(*arguments: str) -> str:
        command = [sys.executable, "-m", "millrace.cli", *arguments, "--json"]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    run_id = factory.client.submit(noop("a")).wait(timeout_s=60).run_id
    assert json.loads(cli("status", run_id))["status"] == "succeeded"
    assert any(r["run_id"] == run_id for r in json.loads(cli("runs"))["runs"])
    assert json.loads(cli("events", run_id).splitlines()[0])["type"] == "run.submitted.v1"
    assert isinstance(json.loads(cli("endpoints")), list)
    assert isinstance(json.loads(cli("models")), list)
    assert all(f["state"] != "fault" for f in json.loads(cli("doctor")))


def test_help_and_import_answer_fast() -> None:
    """Loose bounds: the figures are measured by `make bench`; this catches an import of torch or numpy."""
    heavy = ("torch", "numpy", "pyarrow", "celery", "httpx")
    code = f"import sys, millrace, millrace.cli.__main__; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_client_without_a_factory_starts_one_and_stops_it(tmp_path: Path) -> None:
    with Client(home=tmp_path / "home") as client:
        assert client.submit(noop("a")).wait(timeout_s=60).status == "succeeded"
        assert client.started_factory
    assert not list((tmp_path / "home").glob("factory.json"))
