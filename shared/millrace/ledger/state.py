"""The state of a run as values: a header, stage counters, and single task rows. The conductor's machine folds over these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import Phase
from millrace.contracts.events import CacheUse, ErrorInfo, StageOutputs
from millrace.contracts.pipelines import Graph, RunStatus, StageStatus

StagePhase = Literal["plan", "work", "merge", "release"]
TaskStatus = Literal[
    "undecided", "pending", "paused", "subscribed", "dispatched", "running", "succeeded", "failed", "cancelled"
]  # fmt: skip

FINAL_RUN: frozenset[str] = frozenset({"succeeded", "failed", "rejected", "cancelled"})
OPEN_TASK: frozenset[str] = frozenset({"undecided", "pending", "paused", "subscribed", "dispatched", "running"})
"""An `undecided` task is still to be looked up in the cache; of a `subscribed` one an identical task is being computed."""


@dataclass(frozen=True, slots=True)
class StageState:
    """Counters and outputs of one stage; nothing in it grows with the number of tasks.

    Attributes:
        num_cached: Tasks that the cache or another run answered, in all phases and rounds.
        num_redone: How often it was executed again because what it had made was gone.
    """

    name: str
    position: int
    status: StageStatus = "pending"
    phase: StagePhase = "plan"
    round: int = 0
    num_tasks: int = 0
    num_done: int = 0
    attempts: int = 0
    num_cached: int = 0
    num_redone: int = 0
    plan: ArtifactRef | None = None
    outputs: StageOutputs | None = None
    error: ErrorInfo | None = None
    started_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """A run's header and its stages.

    Attributes:
        seq: Number of its latest journalled event.
        trace: W3C trace context of its submission.
        cache: Whether it takes answers from the cache, and gives its own.
    """

    run_id: str
    tenant: str
    graph: Graph
    status: RunStatus
    priority: int
    submitted_at: float
    stages: Mapping[str, StageState]
    started_at: float | None = None
    finished_at: float | None = None
    stage: str = ""
    error: ErrorInfo | None = None
    seq: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)
    cache: CacheUse = "use"


class TaskKey(NamedTuple):
    run_id: str
    stage: str
    round: int
    phase: Phase
    idx: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """One task: its current fence, and the holder that the first `attempt.started` bound.

    Attributes:
        failures, losses, outages: Attempts that ended by an error, with their child or worker, or for want of a server.
        limit_key: Of the limit that it counts against; empty: none.
        limit_max: How many may hold that key, as its own stage says; 0 without a limit.
        cache_key: What it computes; empty: not known yet, or not cached.
    """

    key: TaskKey
    tenant: str
    service: str
    resource_class: str
    priority: int
    status: TaskStatus = "pending"
    fence: int = 0
    failures: int = 0
    losses: int = 0
    outages: int = 0
    nonce: str = ""
    worker: str = ""
    ready_at: float = 0.0
    dispatched_at: float | None = None
    result: dict[str, Any] | None = None
    limit_key: str = ""
    limit_max: int = 0
    cache_key: str = ""
