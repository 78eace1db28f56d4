"""One delivery in a simulated worker: the delivery protocol, step by step in virtual time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    AttemptYielded,
    ErrorInfo,
    Event,
    Holder,
    event_type,
    make_event,
)
from millrace.errors import to_payload
from millrace.runtime.announcer import subject
from millrace.runtime.heads import Left, TaskHead, head_name, is_whole
from millrace.store import Store
from millrace.store.artifacts import read_manifest
from millrace.testing.faults import FaultPoint, Strikes
from millrace.testing.simulation import work
from millrace.testing.simulation.pipelines import LEASE_S, SimulatedConfig
from millrace.testing.simulation.process import Thread

SHORT_S = 0.1
ASK_EVERY_S = 0.5
PUBLISH_PAUSE_S = (0.2, 0.8, 3.0)

Wait = Generator[float, None, Any]


@dataclass(slots=True, eq=False)
class Attempt:
    """A delivery under way.

    Attributes:
        asks: It was delivered before, and waits for `hold`.
        is_held: It was told to hold.
        wish: What it is asked to do: to stop without a word, or to hand itself back.
    """

    command: ExecuteAttempt
    holder: Holder
    asks: bool
    is_held: bool = False
    wish: str = ""
    thread: Thread | None = None

    def ask(self, wish: str) -> None:
        if self.wish != "stop":
            self.wish = wish
        if self.thread is not None:
            self.thread.wake()


def new_attempt(command: ExecuteAttempt, *, worker: str, was_delivered: bool) -> Attempt:
    holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce=uuid4().hex, worker=worker)
    return Attempt(command, holder, asks=was_delivered)


class Execution:
    """What an attempt's thread does, from its delivery to the word of its end.

    Args:
        failures: How many failures each flaky task has had, in the whole world.
    """

    def __init__(self, bus: Bus, store: Store, strikes: Strikes, failures: dict[str, int]) -> None:
        self._bus = bus
        self._store = store
        self._strikes = strikes
        self._failures = failures

    def steps(self, attempt: Attempt) -> Wait:
        """Run it to its end; it is to be acknowledged then."""
        config = SimulatedConfig.model_validate(attempt.command.config)
        is_short = config.seconds <= SHORT_S and not attempt.asks
        if not is_short:
            yield from self.say(attempt, AttemptStarted(**_about(attempt), asks=attempt.asks))
        while attempt.asks and not attempt.is_held and attempt.wish != "stop":
            yield ASK_EVERY_S
        if attempt.wish == "stop":
            return
        try:
            ended = yield from self._work(attempt, config)
        except errors.Stale:
            return
        except errors.MillraceError as error:
            ended = _failed(attempt, error)
        if ended is not None:
            yield from self.say(attempt, ended)

    def say(self, attempt: Attempt, data: AttemptEvent) -> Wait:
        """Publish until it is confirmed, under one id; whoever is stopped has nothing to say."""
        event = event_of(attempt.command.tenant, data)
        tries = 0
        while attempt.wish != "stop":
            try:
                self._bus.publish([event])
                return
            except errors.MillraceError:
                yield PUBLISH_PAUSE_S[min(tries, 2)]
                tries += 1

    def _work(self, attempt: Attempt, config: SimulatedConfig) -> Generator[float, None, AttemptEvent | None]:
        command, holder = attempt.command, attempt.holder
        head = TaskHead(
            self._store, head_name(command), attempt_id=holder.attempt_id, fence=holder.fence, nonce=holder.nonce
        )
        left = head.seal() if holder.fence > 1 or attempt.asks else Left()
        if left.outcome is not None and is_whole(self._store, left.outcome):
            return AttemptSucceeded.model_validate({**_about(attempt), **left.outcome["data"]})
        saved = left.checkpoint
        done = 0 if saved is None else int(read_manifest(self._store, saved.digest).meta["part"])
        num_parts = config.num_checkpoints + 1
        for part in range(done, num_parts):
            yield config.seconds / num_parts
            if attempt.wish:
                return _yielded(attempt, saved) if attempt.wish == "yield" else None
            if self._strikes(FaultPoint.CHILD_KILLED):
                raise errors.WorkerLost("A child was killed.")
            if part + 1 < num_parts:
                saved = work.checkpoint(command, part + 1, self._store)
                head.save_checkpoint(saved)
        self._misbehave(command, config)
        answer = work.answer(command, config, self._store)
        ended = AttemptSucceeded.model_validate({**_about(attempt), **answer})
        if config.seconds > LEASE_S:
            with contextlib.suppress(errors.Unavailable):  # it is announced all the same
                head.save_outcome(ended.model_dump(mode="json", include=set(answer)))
        return ended

    def _misbehave(self, command: ExecuteAttempt, config: SimulatedConfig) -> None:
        match config.behaviour:
            case "broken":
                raise errors.StageFailed("Its code is broken.")
            case "hopeless":
                raise errors.Corrupt("It fails whenever it is tried.")
            case "late":
                raise _late(command)
            case "flaky":
                task = head_name(command)
                self._failures[task] = self._failures.get(task, 0) + 1
                if self._failures[task] == 1:
                    raise errors.Corrupt("It fails the first time.")


def event_of(tenant: str, data: AttemptEvent) -> Event:
    """The event, with an id derived from its holder: saying it again is the same event."""
    kind = event_type(type(data))
    named = f"{data.holder.attempt_id}/{data.holder.nonce}/{kind}"
    event_id = "evt_" + hashlib.sha256(named.encode()).hexdigest()[:32]
    return make_event(data, source=f"worker/{data.holder.worker}", subject=data.run_id, tenant=tenant, id=event_id)


def lost(attempt: Attempt) -> AttemptFailed:
    """What a worker's successor on the same host says of an attempt that died with it."""
    return _failed(attempt, errors.WorkerLost("Its worker died; the next one on the host found its traces."))


def _late(command: ExecuteAttempt) -> errors.MillraceError:
    return errors.TimedOut("It did not end in time.", field=f"stages.{command.stage}.timeout_s")


def _failed(attempt: Attempt, error: errors.MillraceError) -> AttemptFailed:
    return AttemptFailed(**_about(attempt), error=ErrorInfo.model_validate(to_payload(error)))


def _yielded(attempt: Attempt, saved: ArtifactRef | None) -> AttemptYielded:
    return AttemptYielded(**_about(attempt), checkpoint=saved)


def _about(attempt: Attempt) -> dict[str, Any]:
    return subject(attempt.command, attempt.holder)
