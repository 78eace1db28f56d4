"""What becomes of a task whose attempt failed, for each class of error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from millrace import errors
from millrace.contracts.events import ErrorInfo
from millrace.contracts.pipelines import Retry
from millrace.ledger.state import TaskKey, TaskState
from millrace_conductor.retries import LOSS_BACKOFF_MAX_S, OUTAGE_BACKOFF_MAX_S, GivenUp, next_attempt

TASK = TaskState(TaskKey("run_1", "train", 0, "work", 7), "default", "training", "cpu", 0, status="running", fence=1)


def waits(code: str, retry: Retry, *, most: int = 2000) -> tuple[list[float], GivenUp]:
    """Fail a task again and again; how long each new attempt waits, and the end."""
    error = ErrorInfo(code=code, message="m", retryable=True)
    task, waited = TASK, list[float]()
    for _ in range(most):
        then = next_attempt(task, error, retry, now=100.0)
        if isinstance(then, GivenUp):
            return waited, then
        assert then.status == "pending"
        waited.append(then.ready_at - 100.0)
        task = replace(then, status="running", fence=then.fence + 1)
    raise AssertionError(f"no end after {most} attempts")


def within(waited: list[float], *bounds: float) -> bool:
    """Whether each wait is between half of its bound and the bound."""
    return len(waited) == len(bounds) and all(b / 2 <= w <= b for w, b in zip(waited, bounds, strict=True))


def test_a_lost_worker_is_replaced_at_once_then_after_a_wait_and_not_for_ever() -> None:
    waited, end = waits("worker_lost", Retry(backoff_s=4.0, max_losses=7))
    assert waited[0] == 0.0
    assert within(waited[1:], 4.0, 8.0, 16.0, LOSS_BACKOFF_MAX_S, LOSS_BACKOFF_MAX_S)
    assert (end.is_poison, end.error.code, end.task.losses, end.task.failures) == (True, "poison", 7, 0)
    assert "millrace dead-letters" in end.error.remedy


@pytest.mark.parametrize("code", ["unavailable", "deadline_exceeded"])
def test_an_outage_is_waited_for_longer_and_more_often_than_a_failure(code: str) -> None:
    waited, end = waits(code, Retry(backoff_s=0.0, max_attempts=1, max_outages=9))
    assert within(waited, 1, 2, 4, 8, 16, *[OUTAGE_BACKOFF_MAX_S] * 3)
    assert (end.is_poison, end.error.code, end.task.outages, end.task.failures) == (False, code, 9, 0)


@pytest.mark.parametrize("code", ["timed_out", "corrupt", "of_the_users_own"])
def test_other_retryable_errors_count_as_failures(code: str) -> None:
    waited, end = waits(code, Retry(backoff_s=1.0, max_attempts=3))
    assert within(waited, 1.0, 2.0)
    assert (end.error.code, end.task.failures, end.task.outages) == (code, 3, 0)


@pytest.mark.parametrize("code", ["resource_exhausted", "invalid_data", "stage_failed"])
def test_what_no_attempt_can_help_ends_at_once_under_its_own_code(code: str) -> None:
    end = next_attempt(TASK, ErrorInfo(code=code, message="m"), Retry(), now=0.0)
    assert isinstance(end, GivenUp)
    assert (end.task.status, end.error.code, end.is_poison) == ("failed", code, False)


def test_counters_do_not_spend_each_other() -> None:
    retry = Retry(max_attempts=2, max_losses=2, max_outages=2, backoff_s=0.0)
    task = TASK
    for code in ("worker_lost", "unavailable", "timed_out"):
        then = next_attempt(task, ErrorInfo(code=code, message="m", retryable=True), retry, now=0.0)
        assert isinstance(then, TaskState)
        task = then
    assert (task.losses, task.outages, task.failures) == (1, 1, 1)


def test_tasks_that_fail_together_return_apart_and_the_same_one_always_alike() -> None:
    error, retry = ErrorInfo(code="timed_out", message="m", retryable=True), Retry(backoff_s=60.0)

    def ready_at(index: int) -> float:
        then = next_attempt(replace(TASK, key=TASK.key._replace(idx=index)), error, retry, now=0.0)
        assert isinstance(then, TaskState)
        return then.ready_at

    assert len({ready_at(i) for i in range(100)}) == 100
    assert ready_at(7) == ready_at(7)


def test_every_code_that_blames_a_server_is_one_of_ours() -> None:
    assert issubclass(errors.DeadlineExceeded, errors.Unavailable)
    assert not issubclass(errors.TimedOut, errors.Unavailable)
