"""The lifecycle's pure machine: what each event does, also when repeated, late or out of order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptYielded,
    CancelRequested,
    EndpointReported,
    ErrorInfo,
    Holder,
    ReleaseOverdue,
    ReleaseSuperseded,
    RunFinished,
    RunSubmitted,
    StageOutputs,
)
from millrace.contracts.pipelines import Binding, Graph, GraphStage, Retry
from millrace.ledger.state import FINAL_RUN, RunState, StageState, TaskKey, TaskState
from millrace_conductor.effects import AddTasks, Announce, Decision, Release, SetTimer, Stop, StopOpenTasks
from millrace_conductor.machine import advance

RUN = "run_1"
MODEL = ArtifactRef(digest="b" * 64, type="model")


def stage(name: str, *needs: str, effect: str = "none", when: str = "", attempts: int = 3) -> GraphStage:
    return GraphStage(
        name=name, kind=name, service=name, config={}, outputs={"model": "model"}, needs=needs, when=when,
        inputs={"model": Binding(artifact=MODEL)}, effect="release" if effect == "release" else "none",
        endpoint="e" if effect == "release" else "", retry=Retry(max_attempts=attempts),
    )  # fmt: skip


def run_of(*stages: GraphStage) -> RunState:
    graph = Graph(pipeline="p", spec_digest="", stages=stages)
    states = {s.name: StageState(name=s.name, position=i) for i, s in enumerate(stages)}
    return RunState(RUN, "default", graph, "queued", 0, 0.0, states)


def task(name: str, *, phase: str = "plan", index: int = 0, fence: int = 1, status: str = "dispatched") -> TaskState:
    key = TaskKey(RUN, name, 0, phase, index)  # type: ignore[arg-type]  # literals in tests
    return TaskState(key, "default", name, "cpu", 0, status=status, fence=fence)  # type: ignore[arg-type]


def about(name: str, *, nonce: str = "n1", fence: int = 1, phase: str = "plan", index: int = 0) -> dict[str, object]:
    holder = Holder(attempt_id="a", fence=fence, nonce=nonce, worker="w")
    return {"run_id": RUN, "stage": name, "phase": phase, "index": index, "holder": holder}


def started(name: str, **more: object) -> AttemptStarted:
    return AttemptStarted.model_validate(about(name, **more))  # type: ignore[arg-type]


def succeeded(name: str, outputs: StageOutputs | None = None, **more: object) -> AttemptSucceeded:
    return AttemptSucceeded.model_validate({**about(name, **more), "outputs": outputs or StageOutputs()})  # type: ignore[arg-type]


def failed(name: str, *, retryable: bool, **more: object) -> AttemptFailed:
    error = ErrorInfo(code="x", message="m", retryable=retryable)
    return AttemptFailed.model_validate({**about(name, **more), "error": error})  # type: ignore[arg-type]


def submit(run: RunState) -> Decision:
    return advance(run, RunSubmitted(run_id=RUN, graph=run.graph), now=1.0)


def announced(decision: Decision) -> list[str]:
    return [type(e.data).__name__ for e in decision.effects if isinstance(e, Announce)]


def final(decision: Decision) -> RunFinished:
    return next(e.data for e in decision.effects if isinstance(e, Announce) and isinstance(e.data, RunFinished))


def test_submission_starts_every_stage_without_needs() -> None:
    decision = submit(run_of(stage("a"), stage("b"), stage("c", "a", "b")))
    assert [e.stage for e in decision.effects if isinstance(e, AddTasks)] == ["a", "b"]


def test_a_second_submission_of_the_same_run_changes_nothing() -> None:
    run = submit(run_of(stage("a"))).run
    assert submit(run) == Decision(run)


def test_success_starts_what_follows_and_the_last_success_ends_the_run() -> None:
    run = submit(run_of(stage("a"), stage("b", "a"))).run
    first = advance(run, succeeded("a"), task=task("a"), now=2.0)
    assert [e.stage for e in first.effects if isinstance(e, AddTasks)] == ["b"]
    last = advance(first.run, succeeded("b"), task=task("b"), now=3.0)
    assert last.run.status == "succeeded"
    assert final(last).status == "succeeded"


def test_the_first_started_binds_the_holder_and_another_is_told_to_stop() -> None:
    run = submit(run_of(stage("a"))).run
    bound = advance(run, started("a", nonce="n1"), task=task("a"), now=2.0).task
    assert bound is not None
    assert bound.nonce == "n1"
    other = advance(run, started("a", nonce="n2"), task=bound, now=2.0)
    assert other.task is None
    assert [type(e) for e in other.effects] == [Stop]


def test_a_success_that_overtakes_its_start_counts_and_the_late_start_is_ignored() -> None:
    run = submit(run_of(stage("a"), stage("b", "a"))).run
    done = advance(run, succeeded("a"), task=task("a"), now=2.0)
    assert done.task is not None
    late = advance(done.run, started("a"), task=done.task, now=2.1)
    assert late == Decision(done.run)


@pytest.mark.parametrize("stale", [{"fence": 1}, {"fence": 2, "nonce": "other"}])
def test_a_result_of_a_stale_holder_is_refused(stale: dict[str, object]) -> None:
    run = submit(run_of(stage("a"))).run
    current = replace(task("a", fence=2, status="running"), nonce="n1")
    assert advance(run, succeeded("a", None, **stale), task=current, now=2.0) == Decision(run)


def test_a_retryable_failure_waits_longer_each_time_then_fails_the_run() -> None:
    run, current = submit(run_of(stage("a", attempts=3))).run, task("a")
    delays = []
    for _ in range(2):
        again = advance(run, failed("a", retryable=True, fence=current.fence), task=current, now=10.0).task
        assert again is not None
        assert again.status == "pending"
        delays.append(again.ready_at - 10.0)
        current = replace(again, status="dispatched", fence=again.fence + 1)
    assert 0.5 <= delays[0] <= 1.0 <= delays[1] <= 2.0
    end = advance(run, failed("a", retryable=True, fence=3), task=current, now=10.0)
    assert end.run.status == "failed"
    assert final(end).stage == "a"


def test_a_failure_that_no_attempt_can_help_ends_the_run_and_stops_the_rest() -> None:
    run = submit(run_of(stage("a"), stage("b"), stage("c", "a"))).run
    end = advance(run, failed("a", retryable=False), task=task("a"), now=2.0)
    assert {n: s.status for n, s in end.run.stages.items()} == {"a": "failed", "b": "cancelled", "c": "skipped"}
    assert any(isinstance(e, StopOpenTasks) for e in end.effects)


def test_a_plan_of_many_tasks_is_worked_then_merged() -> None:
    run = submit(run_of(stage("a"))).run
    plan = AttemptSucceeded.model_validate(
        {**about("a"), "plan": ArtifactRef(digest="c" * 64, type="plan"), "num_tasks": 2}
    )
    run = advance(run, plan, task=task("a"), now=2.0).run
    for index in (1, 0):
        result = AttemptSucceeded.model_validate({**about("a", phase="work", index=index), "result": {"i": index}})
        decision = advance(run, result, task=task("a", phase="work", index=index), now=3.0)
        run = decision.run
    assert AddTasks("a", 0, "merge", 1) in decision.effects
    end = advance(run, succeeded("a", phase="merge"), task=task("a", phase="merge"), now=4.0)
    assert end.run.status == "succeeded"


def test_merge_may_answer_with_another_round() -> None:
    run = submit(run_of(stage("a"))).run
    run = replace(run, stages={"a": replace(run.stages["a"], phase="merge", num_tasks=2, num_done=2)})
    plan = {"plan": ArtifactRef(digest="c" * 64, type="plan"), "num_tasks": 5}
    again = AttemptSucceeded.model_validate({**about("a", phase="merge"), **plan})
    decision = advance(run, again, task=task("a", phase="merge"), now=3.0)
    assert AddTasks("a", 1, "work", 5) in decision.effects


@pytest.mark.parametrize("verdict", ["failed", "inconclusive"])
def test_a_gate_that_does_not_pass_rejects_the_run_and_skips_what_follows(verdict: str) -> None:
    run = submit(run_of(stage("a"), stage("b", "a"))).run
    outputs = StageOutputs.model_validate({"verdict": verdict})
    end = advance(run, succeeded("a", outputs), task=task("a"), now=2.0)
    assert end.run.status == "rejected"
    assert end.run.stages["b"].status == "skipped"


def test_a_false_condition_skips_the_stage_and_what_needs_it() -> None:
    run = submit(run_of(stage("a"), stage("b", "a", when="a.accuracy > 0.9"), stage("c", "b"))).run
    end = advance(run, succeeded("a", StageOutputs(metrics={"accuracy": 0.5})), task=task("a"), now=2.0)
    assert {n: s.status for n, s in end.run.stages.items()} == {"a": "succeeded", "b": "skipped", "c": "skipped"}
    assert end.run.status == "succeeded"


def test_cancel_is_final_even_when_it_races_with_success() -> None:
    run = submit(run_of(stage("a"))).run
    cancelled = advance(run, CancelRequested(run_id=RUN), now=2.0)
    assert cancelled.run.status == "cancelled"
    assert advance(cancelled.run, succeeded("a"), task=task("a"), now=2.1) == Decision(cancelled.run)


def test_a_cancelled_run_says_why() -> None:
    end = advance(submit(run_of(stage("a"))).run, CancelRequested(run_id=RUN, reason="enough"), now=2.0).run
    assert end.error is not None
    assert (end.error.code, end.error.message) == ("cancelled", "enough")


def test_a_release_waits_for_a_server_to_be_ready() -> None:
    run = submit(run_of(stage("d", effect="release"))).run
    proved = advance(run, succeeded("d"), task=task("d"), now=2.0)
    assert [type(e) for e in proved.effects] == [Release, SetTimer]
    assert proved.run.status == "running"
    ready = EndpointReported(name="e", generation=1, server="s", url="http://x", status="ready", run_id=RUN)
    end = advance(proved.run, ready, now=3.0)
    assert end.run.status == "succeeded"
    assert end.run.stages["d"].outputs is not None
    assert end.run.stages["d"].outputs.summary["url"] == "http://x"


def test_a_release_that_no_server_reports_fails_with_what_to_do() -> None:
    run = advance(submit(run_of(stage("d", effect="release"))).run, succeeded("d"), task=task("d"), now=2.0).run
    end = advance(run, ReleaseOverdue(run_id=RUN, stage="d"), now=200.0)
    assert end.run.status == "failed"
    assert "millrace serve" in final(end).error.remedy  # type: ignore[union-attr]  # it has one


def test_a_release_carries_the_metrics_of_the_report_that_it_was_judged_by() -> None:
    report = {"report": Binding(stage="again", port="report")}
    deploy = stage("d", "again", "first", effect="release")
    deploy = deploy.model_copy(update={"inputs": {**deploy.inputs, **report}})
    run = submit(run_of(stage("first"), stage("again"), deploy)).run
    for name, accuracy in (("first", 0.5), ("again", 0.9)):
        judged = StageOutputs(verdict="passed", metrics={"accuracy": accuracy})
        run = advance(run, succeeded(name, judged), task=task(name), now=2.0).run
    proved = advance(run, succeeded("d"), task=task("d"), now=3.0)
    [release] = [e for e in proved.effects if isinstance(e, Release)]
    assert release.metrics == {"accuracy": 0.9}


def test_a_cancel_while_a_release_waits_for_its_server_changes_nothing() -> None:
    run = advance(submit(run_of(stage("d", effect="release"))).run, succeeded("d"), task=task("d"), now=2.0).run
    assert advance(run, CancelRequested(run_id=RUN), now=3.0) == Decision(run)


def test_a_release_that_a_stop_replaced_fails_and_names_it() -> None:
    run = advance(submit(run_of(stage("d", effect="release"))).run, succeeded("d"), task=task("d"), now=2.0).run
    other = ReleaseSuperseded(run_id=RUN, endpoint="other", generation=2, release=2, by="run_2")
    assert advance(run, other, now=3.0) == Decision(run)
    end = advance(run, ReleaseSuperseded(run_id=RUN, endpoint="e", generation=2, release=0), now=3.0)
    assert end.run.status == "failed"
    assert "a stop of the endpoint" in final(end).error.message  # type: ignore[union-attr]  # it has one


def test_a_yielded_attempt_goes_back_without_counting_as_a_failure() -> None:
    run = submit(run_of(stage("a"))).run
    event = AttemptYielded.model_validate(about("a"))
    again = advance(run, event, task=task("a"), now=2.0).task
    assert again is not None
    assert (again.status, again.failures, again.ready_at) == ("pending", 0, 2.0)


@given(st.integers(0, 2**32))
def test_events_repeated_and_reordered_reach_one_end(seed: int) -> None:
    """A tiny world: deliver started, success and cancel of a chain in random order with repeats; the run ends once."""
    rng = random.Random(seed)
    run = submit(run_of(stage("a"), stage("b", "a"))).run
    tasks = {"a": task("a"), "b": task("b", status="pending")}
    ends, steps = 0, 0
    while run.status not in FINAL_RUN and steps < 400:
        steps += 1
        name = rng.choice("ab")
        events: list[Contract] = [
            started(name, nonce=rng.choice(["n1", "n2"])),
            succeeded(name, nonce=rng.choice(["n1", "n2"])),
            failed(name, retryable=True, nonce="n3", fence=rng.choice([1, 2])),
        ]
        if rng.random() < 0.02:
            events = [CancelRequested(run_id=RUN)]
        decision = advance(run, rng.choice(events), task=tasks[name], now=float(steps))
        run = decision.run
        tasks[name] = decision.task or tasks[name]
        tasks = {
            n: replace(t, status="dispatched", fence=t.fence + (t.fence > 0 and t.failures > 0))
            if t.status == "pending" and run.stages[n].status == "running"
            else t
            for n, t in tasks.items()
        }
        ends += announced(decision).count("RunFinished")
    assert run.status in FINAL_RUN
    assert ends == 1
