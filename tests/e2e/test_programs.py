"""The programmer's side: what a script submits, follows, waits for and gets back, against a running factory."""

from __future__ import annotations

import asyncio
import csv
import random
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from minio import Minio

import millrace
import program_jobs as jobs
from millrace import AsyncClient, Client, Pipeline, Run, Submission, errors, stages
from millrace.contracts.artifacts import ArtifactRef
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory
from servers.radosgw import RadosGW

LIMIT_S = 90.0
GOOD = ["great product", "would buy again", "works perfectly", "excellent quality"]
BAD = ["broke after a day", "waste of money", "terrible quality", "refund please"]


def write_reviews(path: Path, *, num_rows: int = 240) -> Path:
    """A CSV of texts with a label, different in every row."""
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for n in range(num_rows):
            label = chance.choice(["positive", "negative"])
            words = chance.choices(GOOD if label == "positive" else BAD, k=2)
            writer.writerow([f"{words[0]}, {words[1]}. order {n}", label])
    return path


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    settings = Settings(home=tmp_path_factory.mktemp("factory"))
    with running_factory({**environment_of(settings), "OMP_NUM_THREADS": "1"}) as factory:
        yield factory


@pytest.fixture(scope="module")
def client(factory: Factory) -> Client:
    return factory.client


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="module")
def rows(client: Client, reviews: Path) -> ArtifactRef:
    """The reviews, cleaned by one stage alone."""
    return client.submit(stages.Clean(target="label"), data=reviews).result(timeout_s=LIMIT_S).dataset


@pytest.fixture(scope="module")
def served(client: Client, reviews: Path) -> str:
    """An endpoint that a pipeline in Python made."""
    pipeline = Pipeline(
        "sentiment",
        stages=[
            stages.Clean(target="label"),
            stages.Train(task="tabular_classification", max_seconds=5),
            stages.Evaluate(),
            stages.Deploy("sentiment"),
        ],
    )
    data = reviews.with_name("lengths.csv")
    texts = [line.rsplit(",", 1) for line in reviews.read_text().splitlines()[1:]]
    data.write_text("length,label\n" + "".join(f"{len(text)}.{n},{label}\n" for n, (text, label) in enumerate(texts)))
    return client.submit(pipeline, data=data).result(timeout_s=LIMIT_S).endpoint.name


def value(client: Client, what: Any, **options: Any) -> Any:
    return client.submit(what, **options).result(timeout_s=LIMIT_S).value()


def script(directory: Path, text: str, factory: Factory, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does, at the factory."""
    path = directory / "program.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(path), *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S,
        cwd=directory, env={**factory.environment, "PATH": "/usr/bin:/bin", "MILLRACE_URL": factory.client.url},
    )  # fmt: skip


# --- functions: what goes in and what comes out


def test_parameters_and_defaults_go_in_and_json_comes_out(client: Client) -> None:
    assert value(client, jobs.add, params={"a": 1}) == {"sum": 3.0}
    assert value(client, jobs.spread, params={"pair": jobs.Pair(1, 2)}) == {"low": 0, "high": 3}
    assert value(client, jobs.numbers, params={"count": 5000}) == list(range(5000))  # too much for a summary


def test_a_function_may_return_nothing_and_what_it_prints_is_in_the_log(client: Client) -> None:
    run = client.submit(jobs.talk)
    assert run.result(timeout_s=LIMIT_S).value() is None
    assert list(run.logs())[1:] == ["said on stdout", "said on stderr"]
    assert value(client, jobs.unannotated, params={"n": 1}) is None


def test_what_a_function_raises_is_a_typed_error_that_names_its_line(client: Client) -> None:
    run = client.submit(jobs.fail, params={"number": 8})
    with pytest.raises(errors.RunFailed, match=r"ValueError: bad number 8 \(program_jobs.py:\d+, in fail\)") as caught:
        run.wait(timeout_s=LIMIT_S)
    error = caught.value
    assert (error.run_id, error.status, error.stage, error.cause) == (run.id, "failed", "fail", "stage_failed")
    line = int(str(error).partition("program_jobs.py:")[2].partition(",")[0])
    assert "raise ValueError" in Path(jobs.__file__).read_text().splitlines()[line - 1]
    assert any("Traceback" in line for line in run.logs("fail"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jobs.promise, "annotated to return a Report, and returned a dict"),
        (jobs.objects, "JSON cannot carry the dict that stage function 'objects' returned"),
        (jobs.leave, "SystemExit: 3"),
    ],
)
def test_a_result_that_cannot_be_is_told(client: Client, function: Any, message: str) -> None:
    with pytest.raises(errors.RunFailed, match=message):
        client.submit(function).wait(timeout_s=LIMIT_S)


@pytest.mark.parametrize(
    ("what", "options", "field", "message"),
    [
        (jobs.add, {}, "stages.add.with.a", "required"),
        (jobs.add, {"params": {"a": "x"}}, "stages.add.with.a", "Expected a number"),
        (jobs.add, {"params": {"a": 1, "bb": 1}}, "stages.add.with.bb", "no parameter 'bb'"),
        (jobs.square, {}, "stages.square.with.item", "required"),
        (stages.Function(jobs.square, foreach=[1, "b"]), {}, "stages.square.foreach.1.item", "Expected a whole number"),
        (stages.Function(jobs.square, foreach=[]), {}, "stages.square.foreach", "at least one item"),
        (stages.Function(jobs.count_rows, foreach="row"), {}, "stages.count_rows.inputs.rows", "makes a dataset"),
        (jobs.describe, {}, "stages.describe.inputs.rows", "makes a dataset"),
        (jobs.add.function, {}, "", "@millrace.stage"),
        ("pipeline.yaml", {}, "", "Pipeline.load"),
    ],
)
def test_a_mistake_is_refused_at_submit_with_its_field(
    client: Client, what: Any, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(errors.InvalidSpec, match=message) as caught:
        client.submit(what, **options)
    assert caught.value.field == field


# --- functions: where they may stand


def test_a_script_needs_no_main_guard_and_is_not_executed_by_the_worker(tmp_path: Path, factory: Factory) -> None:
    (tmp_path / "letters.py").write_text("SPACE = ' '\n")
    done = script(
        tmp_path,
        """
        import sys
        import millrace
        from millrace import Client
        from letters import SPACE

        client = Client()
        least = 2

        @millrace.stage
        def count(text: str) -> int:
            return sum(len(word) >= least for word in text.split(SPACE))

        print(client.submit(count, params={"text": sys.argv[1]}).result().value())
        """,
        factory,
        "a to the mill",
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_closures_lambdas_and_functions_without_a_file_are_refused(client: Client) -> None:
    offset = 3

    @millrace.stage
    def shifted(a: int) -> int:
        return a + offset

    cell: dict[str, Any] = {}
    exec("import millrace\n@millrace.stage\ndef from_a_cell() -> int: return 1", cell)
    for what, message in [
        (shifted, "inside another function"),
        (millrace.stage(lambda: 1), "inside another function"),
        (cell["from_a_cell"], "no source file"),
    ]:
        with pytest.raises(errors.InvalidSpec, match=message):
            client.submit(what, params={"a": 1} if what is shifted else {})


# --- foreach, plan, merge


def test_foreach_maps_a_function_over_a_list(client: Client) -> None:
    assert value(client, stages.Function(jobs.square, foreach=[3, 1, 2])) == [9, 1, 4]
    merged = client.submit(stages.Function(jobs.power, foreach=[1, 2], params={"exponent": 3, "offset": 1}))
    assert merged.result(timeout_s=LIMIT_S).metrics == {"total": 10.0}


def test_foreach_maps_a_function_over_shards(client: Client, rows: ArtifactRef) -> None:
    merged = client.submit(stages.Function(jobs.count_rows, foreach="rows"), data=rows).result(timeout_s=LIMIT_S)
    assert merged.metrics == {"rows": 240.0, "shards": 3.0}
    each = value(client, stages.Function(jobs.describe, foreach="rows", inputs={"rows": rows}))
    assert sum(report["metrics"]["rows"] for report in each) == 240


def test_a_function_plans_its_own_tasks_and_merges_them_in_order(client: Client) -> None:
    assert value(client, jobs.tables_of, params={"upto": 3}) == [1, 2, 3, 2, 4, 6, 3, 6, 9]


def test_foreach_maps_a_kind_over_settings(client: Client, reviews: Path) -> None:
    mapped = stages.Clean(target="label", foreach=[{"dedup": True}, {"dedup": False}])
    result = client.submit(mapped, data=reviews).result(timeout_s=LIMIT_S)
    assert len(result.stages["clean"].lists["dataset"]) == 2


# --- functions in pipelines


def test_functions_stand_between_the_stages_of_a_pipeline(client: Client, reviews: Path) -> None:
    pipeline = Pipeline(
        "loud",
        stages=[
            stages.Clean(target="label"),
            jobs.shout,
            stages.Clean(name="again", target="label", raw="shout.table"),
            jobs.same,
            jobs.describe,
        ],
    )
    result = client.submit(pipeline, data=reviews, seed=5).result(timeout_s=LIMIT_S)
    assert result.value()["details"] == {"seed": 5, "names": ["text", "label"]}
    assert result.value("same") == result.stages["again"].artifacts["dataset"]


def test_a_table_is_read_from_a_source_as_it_is(client: Client, reviews: Path) -> None:
    assert value(client, jobs.raw_rows, data=reviews) == 240


# --- runs


def test_fifty_runs_are_submitted_at_once(client: Client) -> None:
    runs = client.submit_many([Submission(jobs.add, params={"a": n}) for n in range(50)])
    assert [run.result(timeout_s=LIMIT_S).value()["sum"] for run in runs] == [n + 2 for n in range(50)]


def test_a_run_is_found_again_by_key_label_and_id(client: Client) -> None:
    def submit() -> Run:
        return client.submit(jobs.add, params={"a": 1}, idempotency_key="monday", labels={"team": "mill"}, priority=5)

    run = submit()
    assert submit().id == run.id
    with pytest.raises(errors.Conflict):
        client.submit(jobs.add, params={"a": 2}, idempotency_key="monday")
    found = client.run(run.id)
    assert (found.wait(timeout_s=LIMIT_S).priority, found.view.labels) == (5, {"team": "mill"})
    assert [view.run_id for view in client.runs(label=("team", "mill")).runs] == [run.id]
    with pytest.raises(errors.NotFound):
        client.run("run_of_nobody")


def test_waiting_ends_and_the_run_goes_on_until_it_is_cancelled(client: Client) -> None:
    run = client.submit(jobs.sleep)
    with pytest.raises(errors.DeadlineExceeded, match=r"after 0\.5 s"):
        run.wait(timeout_s=0.5)
    assert run.status in ("queued", "running")
    run.cancel(reason="it was a test")
    assert run.wait_end(timeout_s=LIMIT_S).status == "cancelled"
    with pytest.raises(errors.RunFailed, match="it was a test") as caught:
        run.wait()
    assert caught.value.status == "cancelled"


def test_another_process_follows_a_run(client: Client, factory: Factory, tmp_path: Path) -> None:
    run = client.submit(jobs.sleep, params={"seconds": 1.0})
    done = script(
        tmp_path,
        "import sys; from millrace import Client\nfor e in Client().run(sys.argv[1]).follow(): print(e.type)",
        factory,
        run.id,
    )
    assert done.stdout.splitlines() == [event.type for event in run.events()]
    assert done.stdout.splitlines()[-1] == "run.finished.v1"


def test_ctrl_c_stops_the_script_and_not_the_run(client: Client, factory: Factory, tmp_path: Path) -> None:
    run = client.submit(jobs.sleep, params={"seconds": 3.0}, cache="off")
    path = tmp_path / "waits.py"
    path.write_text(
        "import sys; from millrace import Client\nprint('waits', flush=True); Client().run(sys.argv[1]).wait()"
    )
    waiter = subprocess.Popen(
        [sys.executable, str(path), run.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**factory.environment, "MILLRACE_URL": factory.client.url},
    )  # fmt: skip
    assert waiter.stdout is not None
    waiter.stdout.readline()
    time.sleep(0.7)
    waiter.send_signal(2)
    _, said = waiter.communicate(timeout=10)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert run.wait(timeout_s=LIMIT_S).status == "succeeded"


def test_one_client_serves_many_threads(client: Client) -> None:
    def one(n: int) -> float:
        return float(value(client, jobs.add, params={"a": n})["sum"])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(16))) == [n + 2 for n in range(16)]


def test_the_async_client_does_the_same(factory: Factory, rows: ArtifactRef, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(factory.client.url) as client:

            async def one(n: int) -> Any:
                run = await client.submit(jobs.add, params={"a": n})
                return await (await run.result(timeout_s=LIMIT_S)).value()

            assert [found["sum"] for found in await asyncio.gather(*(one(n) for n in range(10)))] == list(range(2, 12))
            run = await client.submit(stages.Function(jobs.square, foreach=[1, 2]))
            types = [event.type async for event in run.follow()]
            assert (types[0], types[-1], await run.status()) == ("run.submitted.v1", "run.finished.v1", "succeeded")
            assert await (await run.result()).value() == [1, 4]
            failed = await client.submit(jobs.fail)
            with pytest.raises(errors.RunFailed):
                await failed.wait(timeout_s=LIMIT_S)
            assert [line async for line in failed.logs()]
            await client.download(rows, tmp_path / "rows")
            assert pq.read_table(tmp_path / "rows" / "data" / "train-00000.parquet").num_rows > 0

    asyncio.run(main())


# --- data and endpoints


def test_a_directory_is_uploaded_whole(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_reviews(folder / "a.csv", num_rows=30)
    (folder / "b.csv").write_text("text,label\nanother one,positive\n")
    (folder / ".hidden").write_text("not this")
    result = client.submit(stages.Clean(target="label"), data=folder).result(timeout_s=LIMIT_S)
    assert result.stages["clean"].summary["rows_in"] == 31
    with pytest.raises(errors.NotFound, match="no file or directory"):
        client.submit(stages.Clean(target="label"), data=tmp_path / "parst")


def test_an_artifact_is_downloaded_with_all_its_files(client: Client, rows: ArtifactRef, tmp_path: Path) -> None:
    folder = client.download(rows, tmp_path / "rows")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {entry.path for entry in client.artifact(rows.digest).files}


def test_an_endpoint_answers_rows_and_names_those_that_do_not_fit(client: Client, served: str) -> None:
    endpoint = client.endpoint(served)
    answers = endpoint.predict([{"length": 20.0}, {"length": 40}])
    assert [set(answer["probabilities"]) for answer in answers] == [{"negative", "positive"}] * 2
    wrong_rows: dict[str, list[dict[str, Any]]] = {
        "rows[0].lenght": [{"lenght": 1}],
        "rows[1].length": [{"length": 1}, {"length": "x"}],
        "rows": [],
    }
    for field, wrong in wrong_rows.items():
        with pytest.raises(errors.InvalidData) as caught:
            endpoint.predict(wrong)
        assert caught.value.field == field
    with pytest.raises(errors.NotFound, match=f"did you mean '{served}'"):
        client.endpoint(served[:-1])


def test_a_batch_takes_an_endpoint_or_a_digest(client: Client, served: str, reviews: Path, tmp_path: Path) -> None:
    data = reviews.with_name("lengths.csv")
    by_name = client.batch(served, data, out=tmp_path / "by_name.parquet", timeout_s=LIMIT_S)
    model = client.endpoint(served).view.model
    assert model is not None
    by_digest = client.batch(model.digest, data, out=tmp_path, timeout_s=LIMIT_S)
    assert pq.read_table(by_name).num_rows == 240
    assert pq.read_table(by_name) == pq.read_table(by_digest)


# --- the factory that a script starts


def test_scripts_share_one_homes_factory_and_runs_outlive_it(tmp_path: Path) -> None:
    first, second = Client(home=tmp_path), Client(home=tmp_path)
    with second:
        with first:
            assert first.url == second.url
            assert (first.started_factory, second.started_factory) == (True, False)
            run = second.submit(jobs.sleep, params={"seconds": 2.0})
            left = first.submit(jobs.add, params={"a": 1})
        # The factory went with the first; the second starts its own, which goes on with the run.
        assert run.wait(timeout_s=LIMIT_S).status == "succeeded"
        assert second.started_factory
        assert second.run(left.id).result(timeout_s=LIMIT_S).value() == {"sum": 3.0}


def test_closing_an_idle_factory_is_quick(tmp_path: Path) -> None:
    client = Client(home=tmp_path)
    assert client.runs().runs == ()
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 4  # about 0.8 s on an idle machine


# --- production


@pytest.mark.timeout(240)
def test_production_takes_s3_data_and_a_function(
    production_settings: Settings, s3_server: RadosGW, reviews: Path
) -> None:
    bucket = f"data-{uuid.uuid4().hex[:12]}"
    s3 = Minio(s3_server.endpoint, access_key=s3_server.access_key, secret_key=s3_server.secret_key, secure=False)
    s3.make_bucket(bucket)
    s3.fput_object(bucket, "raw/reviews.csv", str(reviews))
    with running_factory(environment_of(production_settings)) as factory:
        pipeline = Pipeline("remote", stages=[stages.Clean(target="label"), jobs.describe])
        result = factory.client.submit(pipeline, data=f"s3://{bucket}/raw/").result(timeout_s=LIMIT_S)
        assert result.value()["metrics"] == {"rows": 240.0}
        assert value(factory.client, stages.Function(jobs.square, foreach=[1, 2, 3])) == [1, 4, 9]
        with pytest.raises(errors.RunFailed, match="none"):
            factory.client.submit(stages.Clean(), data=f"s3://{bucket}/none/").wait(timeout_s=LIMIT_S)
