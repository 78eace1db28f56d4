"""Executing deliveries: announce the start, supervise the attempt, announce its end, and only then let it be acknowledged."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import AttemptStarted, AttemptSucceeded, AttemptUndeliverable, AttemptYielded, Holder
from millrace.contracts.ids import DEFAULT_TENANT
from millrace.contracts.stages import FUNCTION_KIND
from millrace.runtime import metrics
from millrace.runtime.announcer import Announcer, Starts, failed, outcome_name, subject, succeeded
from millrace.runtime.attempt import Attempt, Ending, StopReason
from millrace.runtime.children import Children
from millrace.runtime.digests import WorkerCode
from millrace.runtime.heads import Left, TaskHead, head_name, is_whole
from millrace.runtime.holdings import Held
from millrace.runtime.workdirs import Workdir
from millrace.settings import Settings
from millrace.store import Store

log = structlog.get_logger()

StoreOf = Callable[[str], Store]

ASK_S = (0.1, 0.5)
"""How soon a delivery that waits to be told `hold` asks again: the first time, and from then on."""

SOFT_LIMIT = "soft_timeout"
"""Why an attempt is asked to stop, if not because its worker drains or the conductor wants it back."""


class Executor:
    """Executes deliveries, one per calling thread. Every other method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker_id: str,
        announcer: Announcer,
        children: Children,
        store_of: StoreOf,
        workdir: Workdir,
        digests: WorkerCode,
        beat: Callable[[], None],
    ) -> None:
        """`beat` has the worker say at once that it lives, and whom it holds; `digests` are of stage code."""
        self._settings = settings
        self._worker_id = worker_id
        self._announcer = announcer
        self._starts = Starts(announcer)
        self._store_of = store_of
        self._children = children
        self._workdir = workdir
        self._digests = digests
        self._beat = beat
        self._holdings = children.holdings
        self._is_draining = False

    # --- one delivery, in its slot's thread

    def deliver(self, body: Mapping[str, Any], redelivered: bool) -> bool:
        """Execute a command to its end; whether to acknowledge it. Never raises: the broker would lose the command."""
        try:
            command = ExecuteAttempt.received(body)
        except ValidationError as error:
            return self._refuse(body, error)
        nonce = os.urandom(16).hex()
        holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce=nonce, worker=self._worker_id)
        held = self._holdings.begin(holder, redelivered=redelivered)
        if held is None:
            log.info("attempt_dropped", run=command.run_id, attempt=command.attempt_id, redelivered=redelivered)
            return True
        if held.holder.nonce != nonce:  # it runs here already: the connection was lost meanwhile, and it came again
            held.ended.wait()
            return held.is_settled
        is_settled = False
        try:
            is_settled = self._execute(command, body, held)
        except Exception as error:
            log.exception("attempt_broke", run=command.run_id, stage=command.stage, attempt=command.attempt_id)
            lost = errors.WorkerLost(f"Worker {self._worker_id} failed: {type(error).__name__}: {error}.")
            is_settled = self._announcer.announce(command, failed(command, holder, Ending(error=lost), None))
        finally:
            held.cancel_timers()
            if is_settled and held.is_noted:
                self._workdir.forget(holder)
            self._holdings.end(held, is_settled=is_settled)
        return is_settled

    def _execute(self, command: ExecuteAttempt, body: Mapping[str, Any], held: Held) -> bool:
        if self._is_draining:
            return self._hand_back(command, held)
        expected = command.code_digest
        if expected and expected != (ours := self._digest(command)):
            other = errors.Unavailable(
                f"This worker has other code of kind {command.kind!r} ({ours[:12]}) than was asked for ({expected[:12]}).",
                remedy="Run one version of Millrace on all workers of a service.",
            )
            return self._announcer.announce(command, failed(command, held.holder, Ending(error=other), None))
        self._workdir.note(command, held.holder)
        held.is_noted = True
        if not held.asks:
            held.start = self._starts.add(command, lambda: self._started(command, held))
        elif not self._announcer.announce(command, self._started(command, held)):
            return False
        else:
            self._ask(held)
            if held.stop == "cancelled":
                return True
            if held.stop is not None or held.asked:
                return self._hand_back(command, held)
        try:
            return self._work(command, body, held)
        finally:
            held.end_start()

    def _ask(self, held: Held) -> None:
        """Wait until the conductor says who holds this attempt: it was delivered before, perhaps to a worker that lives."""
        for pause_s in itertools.chain(ASK_S, itertools.repeat(ASK_S[-1])):
            self._beat()
            held.changed.wait(pause_s)
            held.changed.clear()
            if held.may_work or held.stop is not None or held.asked:
                held.asks = False
                return

    def _work(self, command: ExecuteAttempt, body: Mapping[str, Any], held: Held) -> bool:
        """Go on from what earlier attempts left, if there were any: from a checkpoint, or by saying how one ended."""
        holder, left = held.holder, Left()
        if held.may_work or command.fence > 1:
            try:
                left = self._head(command, holder).seal()
                if left.outcome is not None and is_whole(self._store_of(command.tenant), left.outcome):
                    fields = {**left.outcome["data"], **subject(command, holder)}
                    return self._announcer.announce(command, AttemptSucceeded.model_validate(fields))
            except errors.Stale:
                return self._drop(command)
            except errors.MillraceError as error:
                return self._announcer.announce(command, failed(command, holder, Ending(error=error), None))
        if command.soft_timeout_s is not None:
            held.after(command.soft_timeout_s, lambda: self._ask_back(held, SOFT_LIMIT))
        with metrics.busy(command.kind):
            attempt, ending = self._children.run(command, body, held, left.checkpoint)
        held.end_start()
        metrics.count_attempt(command.kind, outcome_name(ending), ending.duration_s)
        try:
            return self._conclude(command, held, attempt, ending)
        finally:
            attempt.log.remove()

    def _conclude(self, command: ExecuteAttempt, held: Held, attempt: Attempt, ending: Ending) -> bool:
        """Announce how it ended. A cancelled or stale attempt ends without a word: the task has gone on without it."""
        name = outcome_name(ending)
        if name in ("cancelled", "stale"):
            return self._drop(command)
        if name == "yielded" and (held.asked != SOFT_LIMIT or ending.stopped):
            return self._hand_back(command, held, has_worked=True)
        logs = self._keep_log(command, attempt)
        if name == "yielded":
            ending = replace(ending, outcome=None, error=_timed_out(command))
        if name != "succeeded":
            return self._announcer.announce(command, failed(command, held.holder, ending, logs))
        ended = succeeded(
            command, held.holder, ending, logs, device=self._children.device, code_digest=self._digest(command)
        )  # fmt: skip
        try:
            if ending.duration_s > self._settings.lease_s:
                self._head(command, held.holder).save_outcome(ended.model_dump(mode="json", exclude={"holder"}))
        except errors.Stale:
            return self._drop(command)
        except errors.MillraceError as error:
            log.warning("outcome_not_kept", attempt=command.attempt_id, reason=str(error))
        return self._announcer.announce(command, ended)

    def _hand_back(self, command: ExecuteAttempt, held: Held, *, has_worked: bool = False) -> bool:
        checkpoint = None
        try:
            checkpoint = self._head(command, held.holder).checkpoint() if has_worked else None
        except errors.MillraceError as error:  # the next attempt looks for it anyway
            log.warning("checkpoint_not_seen", attempt=command.attempt_id, reason=str(error))
        data = AttemptYielded(**subject(command, held.holder), checkpoint=checkpoint)
        return self._announcer.announce(command, data)

    def _drop(self, command: ExecuteAttempt) -> bool:
        log.info("attempt_stopped", attempt=command.attempt_id)
        return True

    def _started(self, command: ExecuteAttempt, held: Held) -> AttemptStarted:
        return AttemptStarted(
            **subject(command, held.holder),
            asks=held.asks,
            device=self._children.device,
            code_digest=self._digest(command),
        )

    def _keep_log(self, command: ExecuteAttempt, attempt: Attempt) -> ArtifactRef | None:
        try:
            return attempt.log.store(self._store_of(command.tenant))
        except errors.MillraceError as error:
            log.warning("log_not_kept", attempt=command.attempt_id, reason=str(error))
            return None

    def _refuse(self, body: Mapping[str, Any], invalid: ValidationError) -> bool:
        """Say that a command cannot be read, if it says at least whose it is; either way it is done with."""
        log.error("command_refused", reason=str(invalid))
        try:
            holder = Holder(
                attempt_id=body["attempt_id"], fence=body["fence"], nonce=os.urandom(16).hex(), worker=self._worker_id
            )
            data = AttemptUndeliverable(
                run_id=body["run_id"], stage=body["stage"], phase=body["phase"], index=body["index"],
                round=body.get("round", 0), holder=holder, reason="its command does not fit this worker's version",
            )  # fmt: skip
        except (KeyError, TypeError, ValidationError):
            return True
        return self._announcer.publish(data, tenant=str(body.get("tenant", DEFAULT_TENANT)))

    # --- what others ask of it

    def stop(self, orders: Sequence[Mapping[str, Any]]) -> None:
        """Kill the attempts that these orders name, and drop their commands should they arrive later."""
        for held in self._holdings.stop(orders):
            self._kill(held, "cancelled")

    def hold(self, orders: Sequence[Mapping[str, Any]]) -> None:
        """Let deliveries work that asked whether they may."""
        for held in self._holdings.named(orders):
            held.may_work = True
            held.changed.set()

    def take_back(self, orders: Sequence[Mapping[str, Any]]) -> None:
        """Ask attempts to save what they have and stop; kill those that have not in `grace_s`. They are handed back."""
        for order in orders:
            for held in self._holdings.named([order]):
                if not held.is_wanted:
                    held.is_wanted = True
                    self._ask_back(held, str(order.get("reason") or "asked"))
                    held.after(self._settings.grace_s, lambda held=held: self._kill(held, "yielded"))  # type: ignore[misc]

    def say_starts(self) -> None:
        """Say of attempts that last that they started, until `close`. Blocks."""
        self._starts.run()

    def drain(self) -> None:
        """Hand back whatever is delivered from now on, and ask what runs to stop."""
        self._is_draining = True
        for held in self._holdings.all():
            self._ask_back(held, "draining")

    def yield_all(self) -> None:
        """Kill what runs and hand it back."""
        for held in self._holdings.all():
            self._kill(held, "yielded")

    def abandon(self) -> None:
        """Stop waiting for a broker that does not answer; unconfirmed commands go back to it."""
        self._announcer.abandon()

    def wait_idle(self, timeout_s: float) -> bool:
        return self._holdings.wait_idle(timeout_s)

    def close(self) -> None:
        self._announcer.abandon()
        self._starts.close()

    @property
    def holders(self) -> list[dict[str, Any]]:
        """Whom this worker holds, as a heartbeat says it."""
        return [{**held.holder.model_dump(), "asks": held.asks} for held in self._holdings.all()]

    # --- the rest

    def _digest(self, command: ExecuteAttempt) -> str:
        return self._digests.by_kind.get(FUNCTION_KIND if command.function else command.kind, "")

    def _head(self, command: ExecuteAttempt, holder: Holder) -> TaskHead:
        store = self._store_of(command.tenant)
        return TaskHead(
            store, head_name(command), attempt_id=holder.attempt_id, fence=holder.fence, nonce=holder.nonce
        )  # fmt: skip

    def _kill(self, held: Held, reason: StopReason) -> None:
        attempt = self._holdings.mark(held, stop=reason)
        if attempt is not None:
            attempt.stop(reason)

    def _ask_back(self, held: Held, reason: str) -> None:
        attempt = self._holdings.mark(held, asked=reason)
        if attempt is not None:
            attempt.ask(reason)


def _timed_out(command: ExecuteAttempt) -> errors.TimedOut:
    return errors.TimedOut(
        f"Stage {command.stage!r} saved a checkpoint at its soft limit of {command.soft_timeout_s:g} s; its next attempt "
        "goes on from there.",
        remedy="Raise `soft_timeout_s` of the stage, or `max_attempts` of its `retry`, if this happens to it every time.",
        field=f"stages.{command.stage}.soft_timeout_s",
    )
