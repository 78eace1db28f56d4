"""Simulated clients: they submit through the gateway's own code, and ask again until they are answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.base import Contract
from millrace.contracts.events import (
    CancelRequested,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    RunSubmitted,
    make_event,
)
from millrace.contracts.ids import new_run_id
from millrace.ledger.ledger import Ledger
from millrace.ledger.state import FINAL_RUN
from millrace.testing.simulation.pipelines import Planned
from millrace.testing.simulation.process import Steps

ASK_AGAIN_S = 1.0


@dataclass(slots=True)
class Submitted:
    """A run that was asked for.

    Attributes:
        is_accepted: Its submission was answered.
        ends: The ends that are right for it by now.
    """

    run_id: str
    planned: Planned
    ends: set[str]
    is_accepted: bool = False


@dataclass(slots=True)
class Clients:
    """All of them, behind one gateway that never dies; what dies behind it they notice as errors.

    Attributes:
        num_open: How many have not done yet what they will do.
    """

    ledger: Ledger
    bus: Bus
    random: Random
    submitted: list[Submitted] = field(default_factory=list)
    num_open: int = 0

    def submit(self, planned: Planned) -> Steps:
        """Submit a run, perhaps twice, and perhaps wish for something else afterwards."""
        run = Submitted(str(new_run_id()), planned, set(planned.ends))
        self.submitted.append(run)
        data = RunSubmitted(run_id=run.run_id, graph=planned.graph, priority=planned.priority)
        event = make_event(data, source="client", subject=run.run_id, tenant=planned.tenant)
        for _ in range(1 + (self.random.random() < 0.1)):
            yield from self._until_answered(lambda: self.ledger.submit(event))
        run.is_accepted = True
        wish = self.random.random()
        yield self.random.uniform(0.0, 8.0)
        if wish < 0.1:
            yield from self._cancel(run)
        elif wish < 0.2:
            yield from self._pause(run)
        elif run.planned.may_release and wish < 0.3:
            yield from self._stop_endpoint(run)
        if wish < 0.05 or wish > 0.9:
            yield from self._retry(run)
        self.num_open -= 1

    def _cancel(self, run: Submitted) -> Steps:
        run.ends.add("cancelled")
        yield from self._wish(run, CancelRequested(run_id=run.run_id))

    def _pause(self, run: Submitted) -> Steps:
        yield from self._wish(run, PauseRequested(run_id=run.run_id))
        yield self.random.uniform(0.0, 8.0)
        yield from self._wish(run, ResumeRequested(run_id=run.run_id))

    def _retry(self, run: Submitted) -> Steps:
        """Wait for the end, and go on if it was not success. The code is as it was, and so are its right ends."""
        status = ""
        while status not in FINAL_RUN:
            yield ASK_AGAIN_S
            with contextlib.suppress(errors.Unavailable):
                status = self.ledger.run(run.planned.tenant, run.run_id).status
        if status != "succeeded":
            yield from self._wish(run, RetryRequested(run_id=run.run_id))

    def _wish(self, run: Submitted, data: Contract) -> Steps:
        event = make_event(data, source="client", subject=run.run_id, tenant=run.planned.tenant)
        yield from self._until_answered(lambda: self.ledger.wish(event), may_be_refused=True)

    def _stop_endpoint(self, run: Submitted) -> Steps:
        """Stop what a release may have started, or will start again."""
        name = run.planned.graph.stages[-1].endpoint
        yield from self._until_answered(
            lambda: self.ledger.stop_endpoint(run.planned.tenant, name), may_be_refused=True
        )

    def _until_answered(self, ask: Callable[[], object], *, may_be_refused: bool = False) -> Steps:
        """Ask until there is an answer.

        Args:
            may_be_refused: The run may have ended meanwhile, or not have begun.
        """
        while True:
            try:
                ask()
                break
            except errors.Unavailable:
                yield ASK_AGAIN_S
            except (errors.Conflict, errors.NotFound):
                if not may_be_refused:
                    raise
                break
        self.bus.signal("inbox.changed", {})
