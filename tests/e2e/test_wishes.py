"""Pause, resume, retry and run again, as scripts and terminals do it, on a whole embedded factory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import program_jobs as jobs
from bad_inputs import Terminal
from millrace import AsyncClient, Pipeline, errors, stages
from millrace.client.runs import Run
from millrace.testing.factory import Factory


def pipeline(**config: object) -> Pipeline:
    """Two no-op stages, one after the other; `config` is that of the first."""
    return Pipeline.from_dict(
        {
            "api": "millrace/v1",
            "name": "wishes",
            "params": {"fail": {"type": "string", "default": ""}, "second_s": {"type": "float", "default": 0.3}},
            "stages": {
                "first": {"kind": "noop", "with": config},
                "second": {
                    "kind": "noop",
                    "needs": ["first"],
                    "with": {"fail": "$params.fail", "sleep_s": "$params.second_s"},
                },
            },
        }
    )


def wait_for(claim: Callable[[], bool], *, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def is_at_work(run: Run, stage: str = "first") -> bool:
    return any(e.type == "attempt.started.v1" and e.data["stage"] == stage for e in run.events())


def types(run: Run) -> list[str]:
    return [e.type for e in run.events()]


def test_a_paused_run_finishes_what_works_and_goes_on_when_resumed(shared_factory: Factory, millrace: Terminal) -> None:
    run = shared_factory.client.submit(pipeline(sleep_s=1.0))
    wait_for(lambda: is_at_work(run))
    paused = millrace("pause", run.id, "--reason", "lunch", "--json")
    assert (paused.code, json.loads(paused.out)["status"]) == (0, "paused")
    wait_for(lambda: run.refresh().stages[0].status == "succeeded")
    time.sleep(0.5)
    assert (run.status, run.view.stages[1].status) == ("paused", "pending")
    assert run.id in millrace("runs", "--status", "paused").out
    assert run.resume().status == "running"
    assert run.wait(timeout_s=20).status == "succeeded"
    assert types(run).count("run.paused.v1") == types(run).count("run.resumed.v1") == 1
    millrace("pause", run.id).refused("already succeeded", code=1)


def test_a_cancelled_run_is_retried_with_what_it_had_and_a_follower_sees_it_go_on(shared_factory: Factory) -> None:
    run = shared_factory.client.submit(pipeline(), params={"second_s": 3})  # a busy machine cancels within it, too
    wait_for(lambda: is_at_work(run, "second"))
    run.cancel()
    assert run.wait_end(timeout_s=10).status == "cancelled"
    assert run.retry().status == "queued"
    assert run.wait(timeout_s=20).status == "succeeded"
    assert [s.attempts for s in run.view.stages] == [1, 2]
    told = [e.type for e in run.follow()]
    ends = [i for i, t in enumerate(told) if t == "run.finished.v1"]
    assert len(ends) == 2
    assert ends[0] < told.index("run.retried.v1") < ends[1]
    with pytest.raises(errors.Conflict, match="has succeeded"):
        run.retry()


def test_a_retry_in_the_terminal_is_followed_to_its_end(shared_factory: Factory, millrace: Terminal) -> None:
    run = shared_factory.client.submit(pipeline(), params={"fail": "the data is sour"})
    assert run.wait_end(timeout_s=20).status == "failed"
    again = millrace("retry", run.id, "--follow")
    assert (again.code, "run retried" in again.out, "second: failed" in again.out) == (1, True, True)
    assert [s.attempts for s in run.refresh().stages] == [1, 2]


def test_a_retry_after_the_cause_is_repaired_works_on_what_failed_alone(
    shared_factory: Factory, tmp_path: Path
) -> None:
    needed = tmp_path / "needed"
    mapped = stages.Function(jobs.use_odd_items, foreach=[1, 3, 2], params={"needed": str(needed)})
    run = shared_factory.client.submit(mapped)
    assert run.wait_end(timeout_s=20).status == "failed"
    num_before = run.view.stages[0].num_done
    needed.touch()
    run.retry()
    assert run.result(timeout_s=20).value() == [1, 3, 2]
    [stage] = run.refresh().stages
    assert stage.attempts <= 1 + 3 + (3 - num_before) + 1  # plan, tasks, those that had not succeeded, merge


def test_a_task_that_kills_its_child_each_time_is_a_dead_letter(shared_factory: Factory, millrace: Terminal) -> None:
    run = shared_factory.client.submit(stages.Function(jobs.die, retry={"max_losses": 3, "backoff_s": 0}))
    assert run.wait_end(timeout_s=30).status == "failed"
    assert run.view.error is not None
    assert (run.view.error.code, run.view.stages[0].attempts) == ("poison", 3)
    [letter] = shared_factory.client.dead_letters(run=run.id)
    assert (letter.reason, letter.error.code, len(letter.workers)) == ("poison", "worker_lost", 3)
    told = millrace("dead-letters", "--run", run.id).out
    assert [word for word in (run.id, "die", "poison after 3 attempts", "killed") if word not in told] == []


def test_a_run_is_repeated_with_changes_as_a_new_one(shared_factory: Factory, millrace: Terminal) -> None:
    run = shared_factory.client.submit(pipeline(), params={"fail": "the data is sour"}, labels={"team": "a"}, seed=7)
    assert run.wait_end(timeout_s=20).status == "failed"
    done = millrace("rerun", run.id, "--param", "fail=", "--label", "try=2", "--follow", "--json")
    view = json.loads(done.out)
    assert (done.code, view["status"], view["labels"]) == (0, "succeeded", {"team": "a", "try": "2"})
    assert view["origin"] == {"kind": "rerun", "of": run.id, "at": ""}
    assert view["run_id"] != run.id
    third = run.rerun(params={"fail": ""}, idempotency_key=f"again {run.id}")
    assert run.rerun(params={"fail": ""}, idempotency_key=f"again {run.id}").id == third.id
    with pytest.raises(errors.InvalidSpec, match="flail"):
        run.rerun(params={"flail": ""})
    millrace("rerun", "run_x").refused("There is no run")


def test_the_asynchronous_client_wishes_alike(shared_factory: Factory) -> None:
    async def work() -> list[str]:
        async with AsyncClient(shared_factory.client.url) as client:
            run = await client.submit(pipeline(sleep_s=0.5))
            told = [(await run.pause()).status, (await run.resume()).status]
            await run.cancel()
            told += [(await run.wait_end(timeout_s=20)).status, (await run.retry()).status]
            again = await run.rerun()
            ended = [await r.wait_end(timeout_s=20) for r in (run, again)]
            return [*told, *(view.status for view in ended), str(len(await client.dead_letters(run=run.id)))]

    expected = ["paused", "running", "cancelled", "queued", "succeeded", "succeeded", "0"]
    assert asyncio.run(work()) == expected


def test_cancels_free_their_slots_soon(shared_factory: Factory) -> None:
    runs = [shared_factory.client.submit(pipeline(sleep_s=60.0)) for _ in range(2)]  # as many as there are slots
    wait_for(lambda: all(is_at_work(run) for run in runs))
    begin = time.monotonic()
    for run in runs:
        run.cancel()
    assert shared_factory.client.submit(pipeline()).wait(timeout_s=20).status == "succeeded"
    assert time.monotonic() - begin < 5
    assert [run.refresh().status for run in runs] == ["cancelled"] * 2


def test_without_dead_letters_the_terminal_says_so(millrace: Terminal) -> None:
    assert "No dead letters." in millrace("dead-letters", "--run", "run_x").out
    assert json.loads(millrace("dead-letters", "--run", "run_x", "--json").out) == []
