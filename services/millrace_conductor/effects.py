"""What the machine decides: the new state, and effects that the handlers carry out in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.commands import Phase
from millrace.contracts.events import Holder
from millrace.ledger.state import RunState, TaskState


@dataclass(frozen=True, slots=True)
class Announce:
    """Journal and publish a fact."""

    data: Contract


@dataclass(frozen=True, slots=True)
class AddTasks:
    """Make tasks `0 .. count-1` of a stage's phase pending."""

    stage: str
    round: int
    phase: Phase
    count: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a holder to stop: it is stale, or its run is over."""

    holder: Holder
    reason: str


@dataclass(frozen=True, slots=True)
class StopOpenTasks:
    """Tell whoever works on open tasks of the run to stop, and close those tasks."""

    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Advance an endpoint to a model, once the transaction commits."""

    stage: str
    endpoint: str
    model: ArtifactRef
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver an event to this run after a delay, unless the run ends before."""

    name: str
    delay_s: float
    data: Contract


Effect = Announce | AddTasks | Stop | StopOpenTasks | Release | SetTimer


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one event."""

    run: RunState
    task: TaskState | None = None
    effects: tuple[Effect, ...] = ()
