"""The pure machine in a small world of tasks and workers: whatever comes, in whatever order, counters and ends are right."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptYielded,
    CancelRequested,
    ErrorInfo,
    Holder,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    RunAdmitted,
    RunFinished,
    RunRetried,
    RunSubmitted,
    StageOutputs,
)
from millrace.contracts.pipelines import Graph, GraphStage, Retry
from millrace.ledger.state import FINAL_RUN, OPEN_TASK, RunState, StageState, TaskKey, TaskState
from millrace_conductor.effects import (
    AddTasks,
    Announce,
    Effect,
    PauseTasks,
    ResumeTasks,
    ReviveTasks,
    StopOpenTasks,
)
from millrace_conductor.machine import advance

RUN = "run_1"
PLAN = ArtifactRef(digest="c" * 64, type="plan")
NUM_TASKS = 3
ERRORS = (
    ErrorInfo(code="worker_lost", message="m", retryable=True),
    ErrorInfo(code="unavailable", message="m", retryable=True),
    ErrorInfo(code="timed_out", message="m", retryable=True),
    ErrorInfo(code="resource_exhausted", message="m"),
)


def graph() -> Graph:
    """`b`, which has many tasks, and `c` need `a`; `d` needs both."""
    retry = Retry(max_attempts=2, backoff_s=0.0, max_losses=2, max_outages=2)
    stages = (
        GraphStage(name=n, kind=n, service=n, config={}, inputs={}, outputs={}, needs=tuple(needs), retry=retry)
        for n, needs in (("a", ""), ("b", "a"), ("c", "a"), ("d", "bc"))
    )
    return Graph(pipeline="p", spec_digest="", stages=tuple(stages))


class World:
    """A ledger and its workers in memory: carries out what the machine decides, and says what workers may say."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        stages = {s.name: StageState(name=s.name, position=i) for i, s in enumerate(graph().stages)}
        self.run = RunState(RUN, "default", graph(), "queued", 0, 0.0, stages)
        self.tasks: dict[TaskKey, TaskState] = {}
        self.said: list[Contract] = []
        self.announced: Counter[type] = Counter()
        self.now = 0.0

    def hear(self, event: Contract) -> None:
        self.now += 1.0
        before = self.run.status
        if isinstance(event, RetryRequested) and before in FINAL_RUN - {"succeeded"}:
            self.run = replace(self.run, status="queued")  # as the ledger does where it accepts one
        task = self.tasks.get(key_of(event)) if isinstance(event, AttemptEvent) else None
        decision = advance(self.run, event, task=task, now=self.now)
        if task is not None and decision.task is not None and isinstance(event, AttemptEvent):
            assert event.holder.fence == task.fence, "a stale attempt was believed"
            assert task.nonce in ("", event.holder.nonce), "somebody else than the holder was believed"
        if self.run.status == decision.run.status == "paused":
            begun = [s.name for s in decision.run.stages.values() if s.started_at != self.run.stages[s.name].started_at]
            assert begun == [], "a stage began in a paused run"
        self.run = decision.run
        if decision.task is not None:
            self.tasks[decision.task.key] = decision.task
        for effect in decision.effects:
            self._carry_out(effect)
        self._hold_what_waits()
        assert before not in FINAL_RUN or self.run.status == before or isinstance(event, RetryRequested)
        self.check()

    def check(self) -> None:
        for name, stage in self.run.stages.items():
            work = [t for k, t in self.tasks.items() if k.stage == name and k.phase == "work"]
            assert stage.num_done == sum(t.status == "succeeded" for t in work)
            assert stage.phase != "merge" or stage.num_done == stage.num_tasks
            is_open = any(t.status in OPEN_TASK for k, t in self.tasks.items() if k.stage == name)
            assert is_open == (stage.status == "running")
        if self.run.status == "paused":
            assert all(t.status != "pending" for t in self.tasks.values())
        assert self.announced[RunFinished] - self.announced[RunRetried] == (self.run.status in FINAL_RUN)

    def dispatch(self) -> None:
        """Send pending tasks under a new fence; two workers get each of them."""
        for key, task in self.tasks.items():
            if task.status == "pending" and self.run.status == "running":
                self.tasks[key] = task = replace(task, status="dispatched", fence=task.fence + 1)
                self.said += [word for nonce in "xy" for word in self._words(task, f"{nonce}{task.fence}")]

    def speak(self) -> None:
        """Let somebody say something, perhaps not for the last time."""
        if self.said:
            self.hear(self.rng.choice(self.said))

    def finish(self) -> None:
        """No more faults: whoever holds a task, or takes it next, succeeds."""
        self.hear(ResumeRequested(run_id=RUN))
        self.hear(RetryRequested(run_id=RUN))
        while any(t.status in OPEN_TASK for t in self.tasks.values()):
            self.dispatch()
            for task in list(self.tasks.values()):
                if task.status in ("dispatched", "running"):
                    self.hear(self._success(task, task.nonce or "z"))

    def _words(self, task: TaskState, nonce: str) -> list[Contract]:
        about = about_of(task, nonce)
        error = self.rng.choice(ERRORS)
        words: list[Contract] = [AttemptStarted(**about), AttemptYielded(**about), AttemptFailed(**about, error=error)]
        return [*words, *([self._success(task, nonce)] * 4)]

    def _success(self, task: TaskState, nonce: str) -> AttemptSucceeded:
        about = about_of(task, nonce)
        if task.key.phase == "work":
            return AttemptSucceeded(**about, result={})
        if task.key.phase == "plan" and task.key.stage == "b":
            return AttemptSucceeded(**about, plan=PLAN, num_tasks=NUM_TASKS)
        return AttemptSucceeded(**about, outputs=StageOutputs())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Announce(data):
                self.announced[type(data)] += 1
            case AddTasks(stage, round_, phase, count):
                for i in range(count):
                    key = TaskKey(RUN, stage, round_, phase, i)
                    self.tasks.setdefault(key, TaskState(key, "default", stage, "cpu", 0))
            case ReviveTasks(stage, round_, phase):
                for key, task in self.tasks.items():
                    if key[1:4] == (stage, round_, phase) and (task.status != "succeeded" or phase != "work"):
                        self.tasks[key] = TaskState(key, "default", stage, "cpu", 0, fence=task.fence)
            case StopOpenTasks():
                self._turn(OPEN_TASK, "cancelled")
            case ResumeTasks():
                self._turn({"paused"}, "pending")
            case PauseTasks():
                self._turn({"pending"}, "paused")

    def _hold_what_waits(self) -> None:
        """As the working set does: what waits for a slot waits for its run first."""
        if self.run.status == "paused":
            self._turn({"pending"}, "paused")

    def _turn(self, statuses: set[str] | frozenset[str], status: str) -> None:
        for key, task in self.tasks.items():
            if task.status in statuses:
                self.tasks[key] = replace(task, status=status)  # type: ignore[arg-type]  # literals in this file


def key_of(event: AttemptEvent) -> TaskKey:
    return TaskKey(event.run_id, event.stage, event.round, event.phase, event.index)


def about_of(task: TaskState, nonce: str) -> dict[str, object]:
    key = task.key
    holder = Holder(attempt_id=f"{key}.{task.fence}", fence=task.fence, nonce=nonce, worker="w")
    return {
        "run_id": key.run_id, "stage": key.stage, "phase": key.phase, "index": key.idx, "round": key.round, "holder": holder,
    }  # fmt: skip


WISHES: tuple[type[Contract], ...] = (PauseRequested, ResumeRequested, RetryRequested, RunSubmitted, RunAdmitted)


def chaos(world: World, *, steps: int, cancels: bool) -> None:
    for _ in range(steps):
        world.dispatch()
        luck = world.rng.random()
        if luck < 0.75:
            world.speak()
        elif luck < 0.99 or not cancels:
            wish = world.rng.choice(WISHES)
            world.hear(wish.model_validate({"run_id": RUN, "graph": graph()}))
        else:
            world.hear(CancelRequested(run_id=RUN))


@given(st.integers(0, 2**32), st.booleans())
def test_any_history_keeps_the_counters_right_and_can_be_brought_to_success(seed: int, cancels: bool) -> None:
    world = World(random.Random(seed))
    chaos(world, steps=150, cancels=cancels)
    world.hear(RunSubmitted(run_id=RUN, graph=graph()))
    world.finish()
    assert world.run.status == "succeeded"
    assert all(s.status == "succeeded" for s in world.run.stages.values())
    assert world.run.stages["b"].num_done == NUM_TASKS


@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_after_the_end_changes_nothing(seed: int) -> None:
    world = World(random.Random(seed))
    world.hear(RunSubmitted(run_id=RUN, graph=graph()))
    world.finish()
    ended, tasks = world.run, dict(world.tasks)
    for word in world.said:
        world.hear(word)
    for wish in (PauseRequested, ResumeRequested, RetryRequested, CancelRequested):
        world.hear(wish.model_validate({"run_id": RUN}))
    assert (world.run, world.tasks) == (ended, tasks)
