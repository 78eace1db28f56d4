"""Plan, work and merge: what one attempt answers, over code that lives in this file."""

# ruff: noqa: ARG002 - the stages here have every stage's signature

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from millrace import errors
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import StageOutputs
from millrace.runtime.phases import execute, execute_here
from millrace.runtime.stage import Context, Inputs, NextPlan, local_context, outputs
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace.store.pages import read_pages, write_pages
from probes.worker import make_command


class Squares:
    """A stage that squares numbers, in as many rounds as asked."""

    name = "squares"
    can_merge = True

    def __init__(self, *numbers: int, rounds: int = 1, padding: int = 0) -> None:
        self.numbers, self.rounds, self.padding = numbers, rounds, padding

    def plan(self, context: Context, inputs: Inputs) -> Sequence[dict[str, Any]]:
        return [{"n": n, "round": 1} for n in self.numbers]

    def work(self, context: Context, inputs: Inputs, task: dict[str, Any]) -> dict[str, Any]:
        return {"n": task["n"] ** 2, "round": task["round"], "padding": "x" * self.padding}

    def merge(self, context: Context, inputs: Inputs, results: Iterable[dict[str, Any]]) -> StageOutputs | NextPlan:
        rows = list(results)
        if rows[0]["round"] < self.rounds:
            return NextPlan([{"n": row["n"], "round": row["round"] + 1} for row in rows])
        return outputs({}, summary={"n": [row["n"] for row in rows]})


class Fixed(Squares):
    """A stage whose only task answers what it is given."""

    can_merge = False

    def __init__(self, answer: Any) -> None:
        super().__init__(1)
        self.answer = answer

    def work(self, context: Context, inputs: Inputs, task: dict[str, Any]) -> Any:
        return self.answer


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with local_context(open_store(Settings(home=tmp_path / "home")), tmp_path) as made:
        yield made


def command(**fields: Any) -> ExecuteAttempt:
    return make_command(**{"outputs": {}, **fields})


def test_one_task_is_planned_worked_on_and_merged_in_one_attempt(context: Context) -> None:
    answer = execute(command(), Squares(3), context, {})
    assert answer["outputs"].summary == {"n": [9]}


def test_a_second_round_of_one_task_goes_on_within_the_attempt(context: Context) -> None:
    answer = execute(command(), Squares(3, rounds=2), context, {})
    assert answer["outputs"].summary == {"n": [81]}


def test_several_tasks_are_answered_as_a_plan(context: Context) -> None:
    answer = execute(command(), Squares(1, 2), context, {})
    assert answer["num_tasks"] == 2
    assert [row["n"] for row in read_pages(context.store, answer["plan"])] == [1, 2]


def test_work_reads_its_own_task_of_the_plan(context: Context) -> None:
    plan = execute(command(), Squares(1, 2, 3), context, {})["plan"]
    answer = execute(command(phase="work", index=2, plan=plan), Squares(), context, {})
    assert answer["result"]["n"] == 9


def test_merge_may_answer_another_plan(context: Context) -> None:
    rows = write_pages(context.store, "plan", [{"n": 1, "round": 1}, {"n": 4, "round": 1}])
    answer = execute(command(phase="merge", results=rows), Squares(rounds=2), context, {})
    assert [row["n"] for row in read_pages(context.store, answer["plan"])] == [1, 4]


def test_a_whole_stage_runs_in_one_process(context: Context) -> None:
    assert execute_here(command(), Squares(1, 2, rounds=2), context, {}).summary == {"n": [1, 16]}


def test_no_tasks_is_an_error(context: Context) -> None:
    with pytest.raises(errors.InvalidData, match="planned no tasks"):
        execute(command(), Squares(), context, {})


def test_a_result_larger_than_what_travels_inline_is_an_error_that_says_what_to_do(context: Context) -> None:
    with pytest.raises(errors.StageFailed, match="at most 4096") as caught:
        execute(command(), Squares(1, padding=5000), context, {})
    assert "write_artifact" in caught.value.remedy


@pytest.mark.parametrize("answer", [None, 7, {"a": 1}])
def test_a_stage_without_merge_must_end_with_outputs(context: Context, answer: Any) -> None:
    with pytest.raises(errors.StageFailed, match="instead of outputs"):
        execute(command(), Fixed(answer), context, {})


def test_a_promised_output_that_is_missing_is_named(context: Context) -> None:
    with pytest.raises(errors.StageFailed, match="without its output 'model'"):
        execute(command(outputs={"model": "model"}), Fixed(outputs({})), context, {})


def test_an_output_of_the_wrong_type_is_refused(context: Context) -> None:
    made = outputs({"model": context.write_artifact("report", {"report.json": b"{}"})})
    with pytest.raises(errors.StageFailed, match="must be a model, and is a report"):
        execute(command(outputs={"model": "model"}), Fixed(made), context, {})


def test_a_summary_that_is_too_large_loses_its_largest_entry_and_not_the_run(context: Context) -> None:
    made = outputs({}, summary={"rows": 5, "ids": list(range(5000))})
    assert execute(command(), Fixed(made), context, {})["outputs"].summary == {"rows": 5}


def test_a_metric_that_is_not_finite_is_left_out(context: Context) -> None:
    made = outputs({}, metrics={"auc": float("nan"), "accuracy": 0.5})
    assert execute(command(), Fixed(made), context, {})["outputs"].metrics == {"accuracy": 0.5}
