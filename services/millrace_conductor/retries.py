"""Whether a task is tried again, and when: a policy of its own for each class of error. Pure; jitter is derived.

| class of error | counted in | first wait | ends the task |
|---|---|---|---|
| its child or worker was lost | `losses` | none, then at most 30 s | `max_losses`: the task is poison |
| a server did not answer | `outages` | 1 s, at most 30 s | `max_outages` |
| any other that may pass | `failures` | `backoff_s`, at most 5 min | `max_attempts` |
| any that no attempt can help, memory that ran out too | `failures` | | at once |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b

from millrace import errors
from millrace.contracts.events import ErrorInfo
from millrace.contracts.pipelines import Retry
from millrace.ledger.state import TaskState

BACKOFF_MAX_S = 300.0
OUTAGE_BACKOFF_MAX_S = 30.0
OUTAGE_BACKOFF_S = 1.0
"""Least wait after an outage, whatever the stage's `backoff_s`: attempts that cost nothing would be over in a second."""

LOSS_BACKOFF_MAX_S = 30.0
"""Where many losses are allowed, most are not the task's doing: hosts that come and go, for instance."""

OUTAGES = frozenset({errors.Unavailable.code, errors.DeadlineExceeded.code})
"""Codes that blame a server. A stage's own time limit is `timed_out`, which counts as a failure."""

POISON = "poison"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The task's last attempt is over.

    Attributes:
        task: Failed, with its counters.
        error: What its run is told.
        is_poison: Whether it goes to the dead letters: each of its attempts took its worker along.
    """

    task: TaskState
    error: ErrorInfo
    is_poison: bool = False


def next_attempt(task: TaskState, error: ErrorInfo, retry: Retry, *, now: float) -> TaskState | GivenUp:
    """What becomes of a task whose attempt failed: pending again with a time to wait for, or given up."""
    if error.code == errors.WorkerLost.code:
        return _after_loss(replace(task, losses=task.losses + 1), error, retry, now)
    if error.retryable and error.code in OUTAGES:
        task = replace(task, outages=task.outages + 1)
        delay = _backoff_s(task, max(retry.backoff_s, OUTAGE_BACKOFF_S), task.outages, OUTAGE_BACKOFF_MAX_S)
        return again(task, ready_at=now + delay) if task.outages < retry.max_outages else _given_up(task, error)
    task = replace(task, failures=task.failures + 1)
    if error.retryable and task.failures < retry.max_attempts:
        return again(task, ready_at=now + _backoff_s(task, retry.backoff_s, task.failures, BACKOFF_MAX_S))
    return _given_up(task, error)


def again(task: TaskState, *, ready_at: float) -> TaskState:
    """The task, pending again. The dispatcher gives it the next fence."""
    return replace(task, status="pending", nonce="", worker="", ready_at=ready_at, dispatched_at=None)


def _after_loss(task: TaskState, error: ErrorInfo, retry: Retry, now: float) -> TaskState | GivenUp:
    """A worker dies of many things, most often not of the task: the first time, nothing is waited for."""
    if task.losses < retry.max_losses:
        first = task.losses == 1
        delay = 0.0 if first else _backoff_s(task, retry.backoff_s, task.losses - 1, LOSS_BACKOFF_MAX_S)
        return again(task, ready_at=now + delay)
    poison = ErrorInfo(
        code=POISON,
        message=f"Task {task.key.idx} of stage {task.key.stage!r} lost its worker {task.losses} times, at last so:"
        f" {error.message}",
        remedy="`millrace dead-letters` shows what is known; perhaps it needs more memory than there is. Then"
        f" `millrace retry {task.key.run_id}`.",
    )
    return GivenUp(replace(task, status="failed"), poison, is_poison=True)


def _given_up(task: TaskState, error: ErrorInfo) -> GivenUp:
    return GivenUp(replace(task, status="failed"), error)


def _backoff_s(task: TaskState, first_s: float, count: int, longest_s: float) -> float:
    """Doubles with each count; between half of it and the whole, so that tasks which failed together do not return so."""
    digest = blake2b(f"{task.key}.{task.fence}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest) / 2**32
    return float(min(first_s * 2.0 ** min(count - 1, 32), longest_s)) * (0.5 + 0.5 * share)
