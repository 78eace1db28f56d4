"""What the HTTP API answers about runs, models and endpoints; the SDK decodes the same models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.commands import Phase
from millrace.contracts.events import CacheUse, ErrorInfo, Origin, StageOutputs, decode_data
from millrace.contracts.ids import DEFAULT_TENANT
from millrace.contracts.pipelines import RunStatus, StageStatus
from millrace.contracts.stages import Effect, Port


class StageView(Contract):
    """A stage of a run, as it is now."""

    name: str
    kind: str
    status: StageStatus
    implied: bool = False
    num_tasks: int = 0
    num_done: int = 0
    attempts: int = Field(default=0, description="Attempts dispatched so far, over all tasks.")
    num_cached: int = Field(default=0, description="Tasks that the cache or another run answered.")
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: StageOutputs | None = None
    error: ErrorInfo | None = None

    @property
    def is_cached(self) -> bool:
        """Whether nothing of it was computed in this run."""
        return self.status == "succeeded" and self.attempts == 0 and self.num_cached > 0


class RunView(Contract):
    """A run, as it is now."""

    run_id: str
    tenant: str = DEFAULT_TENANT
    pipeline: str
    status: RunStatus
    priority: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stage: str = Field(default="", description="The stage that ended it, if one did.")
    error: ErrorInfo | None = None
    stages: tuple[StageView, ...] = ()
    seq: int = Field(default=0, description="Number of the latest journalled event.")
    cache: CacheUse = "use"
    origin: Origin | None = Field(default=None, description="What made it, if nobody asked for just it.")


TERMINAL_STATUSES: frozenset[RunStatus] = frozenset({"succeeded", "failed", "rejected", "cancelled"})
"""A run in one of these goes no further."""


class RunPage(Contract):
    runs: tuple[RunView, ...] = Field(description="Newest first; their `stages` are left out.")
    next_cursor: str = ""


class SubmitRun(Contract):
    """Body of POST /v1/runs. `params` gives data sets as artifact references or as s3:// URLs."""

    model_config = ConfigDict(allow_inf_nan=False)  # JSON has neither, and would carry them as null

    run_id: str = Field(
        default="",
        description="Made by the client, so that submitting twice is once.",
        pattern=r"^(run_[0-9a-z]{26})?$",
    )
    pipeline: dict[str, JsonValue] = Field(description="The pipeline spec, as in the YAML file.")
    params: dict[str, JsonValue] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-100, le=100)
    idempotency_key: str = Field(default="", max_length=200, pattern=r"^[^\x00]*$")
    seed: int = Field(default=0, ge=0)
    cache: CacheUse = Field(default="use", description="`refresh` writes only; `off` neither reads nor writes.")


class RerunRun(Contract):
    """Body of POST /v1/runs/{run_id}/rerun: what is to differ. Data sets keep their artifacts unless `params` names others."""

    model_config = ConfigDict(allow_inf_nan=False)

    run_id: str = Field(default="", description="Of the new run, made by the client.", pattern=r"^(run_[0-9a-z]{26})?$")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Besides those of the run that is repeated.")
    labels: dict[str, str] = Field(default_factory=dict, description="Besides those of the run that is repeated.")
    priority: int | None = Field(default=None, ge=-100, le=100, description="None: as it was.")
    seed: int | None = Field(default=None, ge=0, description="None: as it was.")
    cache: CacheUse | None = Field(default=None, description="None: as it was.")
    idempotency_key: str = Field(default="", max_length=200, pattern=r"^[^\x00]*$")


class DeadLetterView(Contract):
    """A task that was set aside after its last attempt, with what is known of why."""

    id: str
    run_id: str
    stage: str
    phase: Phase
    round: int
    index: int
    reason: Literal["poison", "undeliverable"]
    error: ErrorInfo = Field(description="Of the last attempt.")
    workers: tuple[str, ...] = Field(default=(), description="Who held the latest attempts, newest first, at most ten.")
    attempts: int = Field(description="How many there were.")
    died_at: datetime


class PlanRequest(Contract):
    """Body of POST /v1/plan: what a submission would run."""

    model_config = ConfigDict(allow_inf_nan=False)

    pipeline: dict[str, JsonValue] = Field(description="The pipeline spec, as in the YAML file.")
    params: dict[str, JsonValue] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)


class EventView(Contract):
    """A journalled event with its number in the run; the SSE stream's `id` is `seq`."""

    seq: int
    id: str
    type: str
    time: datetime
    source: str
    data: dict[str, Any]

    def fact(self) -> Contract:
        """The typed data, such as a StageFinished. Raises InvalidInput where this version does not know the type."""
        return decode_data(self.type, self.data)

    def __str__(self) -> str:
        told = [self.data[key] for key in ("stage", "status") if self.data.get(key)]
        failure = self.data.get("error") or {}
        words = [f"{self.time:%H:%M:%S}", self.type.rpartition(".v")[0], *told, failure.get("message", "")]
        return " ".join(str(word) for word in words if word)


class SignalView(Contract):
    """A transient word about a running attempt: progress, a metric's point, or a log line. It has no number."""

    run_id: str
    stage: str
    attempt_id: str
    kind: Literal["progress", "metric", "log"]
    time: datetime
    payload: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.time:%H:%M:%S} {self.stage} {self.kind} {self.payload}"


class ModelView(Contract):
    """A released model."""

    endpoint: str = Field(description="The endpoint whose release it is.")
    release: int = Field(description="Version, from 1.")
    model: ArtifactRef
    run_id: str
    released_at: datetime
    metrics: dict[str, float] = Field(default_factory=dict)


class EndpointView(Contract):
    """An endpoint: where it should be and what its servers report."""

    name: str
    generation: int
    release: int = Field(description="0: stopped.")
    model: ArtifactRef | None = None
    run_id: str = ""
    status: Literal["starting", "ready", "failed", "stopped"]
    urls: tuple[str, ...] = Field(default=(), description="Base URLs of servers that are ready.")
    error: ErrorInfo | None = None
    updated_at: datetime


class KindView(Contract):
    """A stage kind that is installed where the gateway runs."""

    name: str
    caption: str
    service: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    effect: Effect
    bytes: Literal["deterministic", "measured"]
    config: dict[str, Any] = Field(description="JSON Schema (draft 2020-12) of what stands under `with`.")


class CheckView(Contract):
    """Whether one thing that a process needs answers."""

    name: str = Field(description="`broker`, `store` or `ledger`.")
    ok: bool
    seconds: float = Field(ge=0, description="How long the check took.")
    detail: str = ""
    remedy: str = ""


class ReadyView(Contract):
    """Answer of /readyz."""

    ready: bool
    checks: tuple[CheckView, ...]


class Problem(Contract):
    """Body of every error answer (RFC 9457 fields, and ours)."""

    title: str
    status: int
    detail: str
    code: str
    remedy: str = ""
    field: str = ""


MAX_PREDICT_ROWS = 4096
"""Of one request; more belong to the `predict` stage."""


class PredictRequest(Contract):
    """Body of POST /v1/endpoints/{name}/predict."""

    model_config = ConfigDict(allow_inf_nan=False)  # JSON has neither, and would carry them as null

    rows: tuple[dict[str, JsonValue], ...] = Field(min_length=1, max_length=MAX_PREDICT_ROWS)


class PredictResponse(Contract):
    endpoint: str
    release: int
    model: str = Field(description="Digest of the model that answered.")
    predictions: tuple[dict[str, JsonValue], ...]


class GenerateRequest(Contract):
    """Body of POST /v1/endpoints/{name}/generate."""

    prompt: str = Field(min_length=1, max_length=100_000)
    max_tokens: int = Field(default=128, ge=1, le=4096)
    temperature: float = Field(default=0.8, ge=0, le=5)
    top_k: int = Field(default=0, ge=0, description="0: all tokens.")
    seed: int = Field(default=0, ge=0)
    stream: bool = Field(default=False, description="Answer by server-sent events, a piece of text each.")


class GenerateResponse(Contract):
    endpoint: str
    release: int
    model: str
    text: str
    num_tokens: int
    finish_reason: Literal["length", "stop"]
