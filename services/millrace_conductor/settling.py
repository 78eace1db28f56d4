"""Settling computations: what one task has computed is kept and told to those who wait, or another of them computes it.

A fold locks its own runs alone, so what it means to others goes through their inbox. A computation's row is locked before
its subscribers are read, and a subscriber locks that row before it waits: none is lost between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.contracts.events import AttemptSucceeded, ComputationEnded, make_event
from millrace.ledger import cache, queues
from millrace.ledger.database import Database, Transaction
from millrace.ledger.state import TaskKey, TaskState

ANSWER = {"outputs", "result", "plan", "num_tasks"}
"""The fields of AttemptSucceeded that are its answer; the rest is how it was come by."""

CHECKED_AT_ONCE = 500


@dataclass(slots=True)
class Computed:
    """What a transaction did to computations.

    Attributes:
        answers: Key to (tenant, answer, run id).
        led: Who was to compute these, by key; they do so no more.
        closed: Runs that ended with tasks open.
    """

    answers: dict[str, tuple[str, dict[str, Any], str]] = field(default_factory=dict)
    led: set[tuple[str, TaskKey]] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)

    def succeed(self, task: TaskState, event: AttemptSucceeded) -> None:
        """A task's answer was accepted."""
        if task.cache_key:
            answer = event.model_dump(mode="json", include=ANSWER, exclude_none=True)
            self.answers[task.cache_key] = (task.tenant, answer, task.key.run_id)
            self.led.add((task.cache_key, task.key))

    def give_up(self, task: TaskState) -> None:
        """A task will not compute its key."""
        if task.cache_key:
            self.led.add((task.cache_key, task.key))


def settle(tx: Transaction, computed: Computed, *, conductor: str, now: float) -> int:
    """Write it all; return how many other tasks were told."""
    for run_id in sorted(computed.closed):
        computed.led |= set(cache.led_by(tx, run_id))
    if not computed.led:
        return 0
    cache.put_answers(tx, computed.answers, now=now)
    answered = {(key, task) for key, task in computed.led if key in computed.answers}
    cache.stop_leading(tx, answered)
    told = _tell(tx, computed.answers, conductor, now)
    return told + sum(_hand_over(tx, key, task, conductor, now) for key, task in sorted(computed.led - answered))


def repair(database: Database, *, conductor: str, now: float) -> int:
    """Free tasks that wait for somebody who is not at it, however that came to be; return how many were told."""
    orphans = cache.orphans(database, limit=CHECKED_AT_ONCE)
    lost = cache.lost_subscribers(database, limit=CHECKED_AT_ONCE)
    if not orphans and not lost:
        return 0

    def work(tx: Transaction) -> int:
        told = sum(_hand_over(tx, key, task, conductor, now) for key, task in sorted(orphans))
        for key, task in lost:
            _send(tx, key, task, None, "", conductor, now)
        return told + len(lost)

    return database.transact(work)


def _tell(tx: Transaction, answers: Mapping[str, tuple[str, dict[str, Any], str]], conductor: str, now: float) -> int:
    num_told = 0
    for key, waiting in cache.subscribers(tx, answers).items():
        _, answer, run_id = answers[key]
        for task in waiting:
            _send(tx, key, task, answer, run_id, conductor, now)
            num_told += 1
    return num_told


def _hand_over(tx: Transaction, key: str, old: TaskKey, conductor: str, now: float) -> int:
    """Let the most urgent of those who wait compute it; if nobody does, it is over. Whether somebody was told."""
    if not cache.hand_over(tx, key, old, old):  # locks the row; it may be another's by now
        return 0
    waiting = [task for task in cache.subscribers(tx, [key]).get(key, ()) if task != old]
    if not waiting:
        cache.stop_leading(tx, [(key, old)])
        return 0
    cache.hand_over(tx, key, old, waiting[0])
    _send(tx, key, waiting[0], None, "", conductor, now)
    return 1


def _send(
    tx: Transaction, key: str, task: TaskKey, answer: dict[str, Any] | None, from_run: str, conductor: str, now: float
) -> None:  # fmt: skip
    data = ComputationEnded(
        run_id=task.run_id, stage=task.stage, phase=task.phase, round=task.round, index=task.idx, key=key, answer=answer,
        from_run=from_run,
    )  # fmt: skip
    event = make_event(data, source=f"conductor/{conductor}", subject=task.run_id)
    queues.put_inbox(tx, event, run_id=task.run_id, now=now)
