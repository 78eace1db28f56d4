"""The cache through the front door: hits, misses told field by field, what heals, lineage and replay."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cached_jobs as jobs
from bad_inputs import Terminal
from millrace import Client, Pipeline, Run, stages
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    settings = Settings(home=tmp_path_factory.mktemp("cached"))
    with running_factory({**environment_of(settings), "OMP_NUM_THREADS": "1"}) as factory:
        yield factory


@pytest.fixture(scope="module")
def client(factory: Factory) -> Client:
    return factory.client


@pytest.fixture
def millrace(factory: Factory, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, factory.client.url)


def pipeline(name: str, *, count: int = 3, offset: int = 0) -> Pipeline:
    made, summed = (
        stages.Function(jobs.make, params={"count": count}),
        stages.Function(jobs.total, params={"offset": offset}),
    )
    return Pipeline(name, stages=[made, summed])


def done(run: Run) -> Run:
    run.wait(timeout_s=LIMIT_S)
    return run


def attempts(run: Run) -> list[int]:
    return [stage.attempts for stage in run.view.stages]


def blobs_of(factory: Factory, run: Run, stage: int) -> list[Path]:
    """Files in the store of what a stage of a run made, the manifest last; and no copies that workers keep."""
    outputs = run.view.stages[stage].outputs
    assert outputs is not None
    (ref,) = outputs.artifacts.values()
    digests = [entry.digest for entry in factory.client.artifact(ref.digest).files]
    for digest in digests:
        for copy in (factory.home / "cache").rglob(f"{digest}*"):
            copy.unlink()
    return [next((factory.home / "store").rglob(digest)) for digest in (*digests, ref.digest)]


def test_an_unchanged_run_is_answered_and_a_changed_one_is_explained(client: Client, millrace: Terminal) -> None:
    first = done(client.submit(pipeline("p")))
    again = done(client.submit(pipeline("p")))
    assert (attempts(first), attempts(again)) == ([1, 1], [0, 0])
    assert (again.explain("make").answer, again.explain("make").looks[0].from_run) == ("hit", first.id)
    changed = done(client.submit(pipeline("p", offset=1)))
    assert attempts(changed) == [0, 1]
    (look,) = changed.explain("total").looks
    assert [(d.field, d.before, d.now) for d in look.differences] == [("with.offset", "0", "1")]
    told = millrace("explain", changed.id)
    assert (told.code, "with.offset: 0 -> 1" in told.out, f"computed by {first.id}" in told.out) == (0, True, True)


def test_a_run_may_refuse_the_cache_or_refresh_it(client: Client) -> None:
    done(client.submit(pipeline("modes")))
    assert attempts(done(client.submit(pipeline("modes"), cache="off"))) == [1, 1]
    assert attempts(done(client.submit(pipeline("modes"), cache="refresh"))) == [1, 1]
    off = done(client.submit(pipeline("modes"), cache="off"))
    assert off.explain("make").answer == "off"


def test_a_byte_of_data_that_changed_behind_its_times_is_a_miss(client: Client, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"word {n},{n % 2}\n" for n in range(40)))
    times = data.stat()
    first = done(client.submit(stages.Clean(target="label"), data=data))
    data.write_text(data.read_text().replace("word 7,", "w0rd 7,"))
    os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert data.stat().st_size == times.st_size
    changed = done(client.submit(stages.Clean(target="label"), data=data))
    assert (attempts(first), attempts(changed)) == ([1], [1])
    assert [d.field for d in changed.explain("clean").looks[0].differences] == ["inputs.raw"]


def test_a_corrupt_blob_is_found_by_its_reader_and_made_again(factory: Factory, client: Client) -> None:
    first = done(client.submit(pipeline("heal", count=5)))
    table, _ = blobs_of(factory, first, 0)
    table.chmod(0o644)
    table.write_bytes(b"x" * table.stat().st_size)
    reader = done(client.submit(pipeline("heal", count=5, offset=2)))  # the table is a hit, its bytes are not
    assert reader.view.stages[0].attempts == 1
    assert reader.result().value()["metrics"] == {"total": 22.0}


def test_identical_runs_that_are_submitted_at_once_compute_once(client: Client) -> None:
    runs = [client.submit(stages.Function(jobs.slow, params={"seconds": 1.5})) for _ in range(10)]
    views = [done(run).view for run in runs]
    assert sum(view.stages[0].attempts for view in views) == 1


def test_lineage_goes_back_to_code_and_forward_to_what_came_of_it(client: Client, millrace: Terminal) -> None:
    run = done(client.submit(pipeline("line", count=4)))
    table, report = (next(iter(s.outputs.artifacts.values())).digest for s in run.view.stages if s.outputs)
    (root,) = client.lineage(report).roots
    assert root.maker is not None
    assert (root.maker.stage, len(root.maker.code_digest)) == ("total", 64)
    below = {child.port: child for child in root.children}
    assert (sorted(below), below["table"].digest) == (["code", "table"], table)
    assert [child.digest for child in client.lineage(table[:12], forward=True).roots[0].children] == [report]
    told = millrace("lineage", run.id)
    assert (told.code, "by make of line" in told.out) == (0, True)
    assert millrace("lineage", "nothing").code == 2


def test_a_replay_finds_equal_stages_and_those_that_roll_dice(client: Client, millrace: Terminal) -> None:
    sound = done(client.submit(pipeline("replayed")))
    equal = millrace("replay", sound.id)
    assert (equal.code, equal.out.count("equal")) == (0, 2)
    unsound = done(client.submit(jobs.chance))
    told = millrace("replay", unsound.id)
    assert (told.code, "differs" in told.out) == (1, True)


def test_a_rerun_answers_faster_than_it_computed(client: Client) -> None:
    job = stages.Function(jobs.slow, params={"seconds": 2.0})
    done(client.submit(job))
    began = time.monotonic()
    done(client.submit(job))
    assert time.monotonic() - began < 1.5
