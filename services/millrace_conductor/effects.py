"""What the machine decides: the new state, and effects that the handlers carry out in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.commands import Phase
from millrace.contracts.events import ErrorInfo, Holder
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
class Yield:
    """Ask a holder to save a checkpoint and hand the attempt back."""

    holder: Holder
    reason: str


@dataclass(frozen=True, slots=True)
class PauseTasks:
    """Let no pending task of the run start, and ask whoever works on the others to hand them back."""


@dataclass(frozen=True, slots=True)
class ResumeTasks:
    """Let the run's paused tasks start."""


@dataclass(frozen=True, slots=True)
class ReviveTasks:
    """Make the tasks of a stage's phase that did not succeed pending again, their counters at zero.

    The one task of a plan or a merge also if it did: its answer is what ended the stage.
    """

    stage: str
    round: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class BuryTask:
    """Set a task aside among the dead letters, with its evidence, and announce it."""

    task: TaskState
    reason: Literal["poison", "undeliverable"]
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Admit:
    """See which runs of this one's pipeline may start, now that one waits, or another's place is free."""


@dataclass(frozen=True, slots=True)
class Redo:
    """Set all tasks of stages aside, and forget cached answers that name what was lost.

    Attributes:
        stages: Those that begin anew.
        producer: The one of them that made the lost artifact.
        digest: Of that artifact.
    """

    stages: tuple[str, ...]
    producer: str
    digest: str


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


Effect = (
    Announce | AddTasks | Stop | StopOpenTasks | Yield | PauseTasks | ResumeTasks | ReviveTasks | BuryTask | Admit
    | Redo | Release | SetTimer
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one event."""

    run: RunState
    task: TaskState | None = None
    effects: tuple[Effect, ...] = ()
