"""Simulated clients: they submit through the gateway's own code, and ask again until they are answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.events import CancelRequested, RunSubmitted, make_event
from millrace.contracts.ids import new_run_id
from millrace.ledger.ledger import Ledger
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
    """All of them, behind one gateway that never dies; what dies behind it they notice as errors."""

    ledger: Ledger
    bus: Bus
    random: Random
    submitted: list[Submitted] = field(default_factory=list)

    def submit(self, planned: Planned) -> Steps:
        """Submit a run, perhaps twice, and perhaps think better of it."""
        run = Submitted(str(new_run_id()), planned, set(planned.ends))
        self.submitted.append(run)
        data = RunSubmitted(run_id=run.run_id, graph=planned.graph, priority=planned.priority)
        event = make_event(data, source="client", subject=run.run_id, tenant=planned.tenant)
        for _ in range(1 + (self.random.random() < 0.1)):
            yield from self._until_answered(lambda: self.ledger.submit(event))
        run.is_accepted = True
        if self.random.random() < 0.1:
            yield self.random.uniform(0.0, 10.0)
            run.ends.add("cancelled")
            cancel = CancelRequested(run_id=run.run_id)
            asked = make_event(cancel, source="client", subject=run.run_id, tenant=planned.tenant)
            yield from self._until_answered(lambda: self.ledger.request_cancel(asked))

    def _until_answered(self, ask: Callable[[], object]) -> Steps:
        while True:
            try:
                ask()
                break
            except errors.Unavailable:
                yield ASK_AGAIN_S
            except errors.Conflict:  # it has ended meanwhile
                break
        self.bus.signal("inbox.changed", {})
