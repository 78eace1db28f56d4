"""Events: past-tense facts as CloudEvents 1.0, each type versioned with a data model of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract, Message
from millrace.contracts.commands import Phase
from millrace.contracts.ids import DEFAULT_TENANT, new_id
from millrace.contracts.pipelines import Graph, RunStatus

Verdict = Literal["passed", "failed", "inconclusive"]
CacheUse = Literal["use", "refresh", "off"]


class Event(Message):
    """A CloudEvents 1.0 envelope. `type` is also the routing key."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(description="Unique; a repeated id is the same event.")
    source: str = Field(description="Who says so: `conductor`, `worker/<id>`, `server/<id>`, `client`.")
    type: str = Field(description="Versioned name, such as `attempt.succeeded.v1`.")
    subject: str = Field(description="What it is about: a run id, an endpoint's name.")
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    tenant: str = DEFAULT_TENANT
    data: dict[str, Any]
    traceparent: str = ""


class Holder(Message):
    """Who works on an attempt: the first journalled `attempt.started` binds it."""

    attempt_id: str
    fence: int = Field(ge=1)
    nonce: str = Field(description="Made per delivery.")
    worker: str


class ErrorInfo(Message):
    """A failure as users see it."""

    code: str
    message: str
    remedy: str = ""
    field: str = ""
    retryable: bool = False
    digest: str = Field(default="", description="The artifact of which bytes were missing or corrupt, if so.")


class StageOutputs(Message):
    """What a stage made: artifacts by port, and a small summary that people read."""

    artifacts: dict[str, ArtifactRef] = Field(default_factory=dict)
    lists: dict[str, tuple[ArtifactRef, ...]] = Field(
        default_factory=dict, description="Ports of a `foreach` that nothing merged: an artifact a task, in task order."
    )
    summary: dict[str, Any] = Field(default_factory=dict, description="At most 4 KiB as JSON.")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="What `when` and gates may read, such as `accuracy`."
    )
    verdict: Verdict | None = Field(default=None, description="Of a stage with a gate.")


# --- what clients and the gateway ask, through the inbox -------------------------------------------------------------


class Origin(Message):
    """Why a run is there, if not because somebody asked for just it."""

    kind: Literal["trigger", "rerun", "replay"]
    of: str = Field(description="The trigger's or the run's id.")
    at: str = Field(default="", description="A trigger's scheduled instant, or the digest of the objects it saw.")


class RunSubmitted(Message):
    type_: Literal["run.submitted.v1"] = Field(default="run.submitted.v1", exclude=True)
    run_id: str
    graph: Graph
    params: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-100, le=100)
    idempotency_key: str = ""
    trace: dict[str, str] = Field(default_factory=dict)
    spec: dict[str, Any] = Field(
        default_factory=dict, description="The pipeline as written, for a re-run with changes."
    )
    cache: CacheUse = Field(default="use", description="`refresh` writes only; `off` neither reads nor writes.")
    origin: Origin | None = None


class CancelRequested(Message):
    type_: Literal["run.cancel_requested.v1"] = Field(default="run.cancel_requested.v1", exclude=True)
    run_id: str
    reason: str = ""


class PauseRequested(Message):
    """Start nothing more of the run; what runs saves a checkpoint and is handed back."""

    type_: Literal["run.pause_requested.v1"] = Field(default="run.pause_requested.v1", exclude=True)
    run_id: str
    reason: str = ""


class ResumeRequested(Message):
    type_: Literal["run.resume_requested.v1"] = Field(default="run.resume_requested.v1", exclude=True)
    run_id: str


class RetryRequested(Message):
    """Go on with a run that failed, was rejected or cancelled, from the stages that did not succeed."""

    type_: Literal["run.retry_requested.v1"] = Field(default="run.retry_requested.v1", exclude=True)
    run_id: str


# --- what workers say ------------------------------------------------------------------------------------------------


class AttemptEvent(Message):
    run_id: str
    stage: str
    phase: Phase
    index: int = Field(ge=0)
    round: int = Field(default=0, ge=0)
    holder: Holder


class AttemptStarted(AttemptEvent):
    """Whoever says so first holds the attempt. A short attempt says only how it ended, which binds it as well."""

    type_: Literal["attempt.started.v1"] = Field(default="attempt.started.v1", exclude=True)
    asks: bool = Field(default=False, description="It was delivered before, and waits for `hold` before it works.")
    device: str = "cpu"
    code_digest: str = ""


class AttemptSucceeded(AttemptEvent):
    """Exactly one of `outputs` (the stage is complete), `result` (one task is) and `plan` (tasks follow) is set."""

    type_: Literal["attempt.succeeded.v1"] = Field(default="attempt.succeeded.v1", exclude=True)
    outputs: StageOutputs | None = None
    result: dict[str, Any] | None = Field(default=None, description="A task's result, at most 4 KiB as JSON.")
    plan: ArtifactRef | None = None
    num_tasks: int = Field(default=0, ge=0)
    logs: ArtifactRef | None = None
    duration_s: float = Field(default=0, ge=0)
    peak_memory_bytes: int = Field(default=0, ge=0)
    device: str = "cpu"
    code_digest: str = ""

    @model_validator(mode="after")
    def _one_answer(self) -> AttemptSucceeded:
        answers = [n for n in ("outputs", "result", "plan") if getattr(self, n) is not None]
        if len(answers) != 1:
            raise ValueError(f"expected one of outputs, result and plan; found {' and '.join(answers) or 'none'}")
        if (answers == ["result"]) != (self.phase == "work"):
            raise ValueError(f"an attempt of phase {self.phase} cannot end with {answers[0]}")
        if self.plan is not None and self.num_tasks < 1:
            raise ValueError("a plan needs at least one task, or its stage would never end")
        return self


class AttemptFailed(AttemptEvent):
    type_: Literal["attempt.failed.v1"] = Field(default="attempt.failed.v1", exclude=True)
    error: ErrorInfo
    logs: ArtifactRef | None = None
    duration_s: float = Field(default=0, ge=0)


class AttemptYielded(AttemptEvent):
    """A draining worker hands the attempt back."""

    type_: Literal["attempt.yielded.v1"] = Field(default="attempt.yielded.v1", exclude=True)
    checkpoint: ArtifactRef | None = None


class AttemptUndeliverable(AttemptEvent):
    type_: Literal["attempt.undeliverable.v1"] = Field(default="attempt.undeliverable.v1", exclude=True)
    reason: str


# --- what the conductor decides --------------------------------------------------------------------------------------


class RunStarted(Message):
    type_: Literal["run.started.v1"] = Field(default="run.started.v1", exclude=True)
    run_id: str
    pipeline: str
    stages: tuple[str, ...]


class RunPaused(Message):
    type_: Literal["run.paused.v1"] = Field(default="run.paused.v1", exclude=True)
    run_id: str
    reason: str = ""


class RunResumed(Message):
    type_: Literal["run.resumed.v1"] = Field(default="run.resumed.v1", exclude=True)
    run_id: str


class RunRetried(Message):
    """A run that had ended goes on."""

    type_: Literal["run.retried.v1"] = Field(default="run.retried.v1", exclude=True)
    run_id: str
    stages: tuple[str, ...] = Field(description="Those that begin again.")


class RunAdmitted(Message):
    """A word of the conductor's own: a run that waited for others of its pipeline may start."""

    type_: Literal["run.admitted.v1"] = Field(default="run.admitted.v1", exclude=True)
    run_id: str


class RunFinished(Message):
    type_: Literal["run.finished.v1"] = Field(default="run.finished.v1", exclude=True)
    run_id: str
    status: RunStatus
    stage: str = Field(default="", description="The stage that ended it, if one did.")
    error: ErrorInfo | None = None


class StageStarted(Message):
    type_: Literal["stage.started.v1"] = Field(default="stage.started.v1", exclude=True)
    run_id: str
    stage: str
    kind: str


class StagePlanned(Message):
    type_: Literal["stage.planned.v1"] = Field(default="stage.planned.v1", exclude=True)
    run_id: str
    stage: str
    round: int = 0
    num_tasks: int


class StageFinished(Message):
    type_: Literal["stage.finished.v1"] = Field(default="stage.finished.v1", exclude=True)
    run_id: str
    stage: str
    status: Literal["succeeded", "failed", "skipped", "cancelled", "rejected"]
    outputs: StageOutputs | None = None
    error: ErrorInfo | None = None
    cached: bool = Field(default=False, description="Nothing of it was computed in this run.")


class TaskDied(Message):
    """A task was set aside after its last attempt: it kills its workers, or cannot be delivered."""

    type_: Literal["task.died.v1"] = Field(default="task.died.v1", exclude=True)
    run_id: str
    stage: str
    phase: Phase
    round: int = 0
    index: int
    reason: Literal["poison", "undeliverable"]
    error: ErrorInfo
    workers: tuple[str, ...] = Field(default=(), description="Who held its latest attempts, at most ten.")


class ComputationEnded(Message):
    """A word of the conductor's own to a task that waited for an identical one: its answer, or that it must compute."""

    type_: Literal["computation.ended.v1"] = Field(default="computation.ended.v1", exclude=True)
    run_id: str
    stage: str
    phase: Phase
    round: int = 0
    index: int
    key: str = Field(description="The cache key.")
    answer: dict[str, Any] | None = Field(default=None, description="Fields of AttemptSucceeded; None: compute.")
    from_run: str = ""


class EventRefused(Message):
    """An event that nobody could apply: its run cannot go on by itself."""

    type_: Literal["event.refused.v1"] = Field(default="event.refused.v1", exclude=True)
    run_id: str
    event_id: str
    reason: str


class ReleaseOverdue(Message):
    """A timer of the conductor's own: nobody reported the release in time."""

    type_: Literal["release.overdue.v1"] = Field(default="release.overdue.v1", exclude=True)
    run_id: str
    stage: str


class ReleaseSuperseded(Message):
    """A newer generation of the endpoint came before any server reported this run's release: none will."""

    type_: Literal["release.superseded.v1"] = Field(default="release.superseded.v1", exclude=True)
    run_id: str
    endpoint: str
    generation: int = Field(ge=1, description="The newer generation.")
    release: int = Field(ge=0, description="Its release; 0: the endpoint was stopped.")
    by: str = Field(default="", description="The run that released it, if one did.")


class EndpointDesired(Message):
    """Where an endpoint should be. Servers reconcile and ignore older generations."""

    type_: Literal["endpoint.desired.v1"] = Field(default="endpoint.desired.v1", exclude=True)
    name: str
    generation: int = Field(ge=1)
    release: int = Field(ge=0, description="The release's version; 0: none, the endpoint is stopped.")
    model: ArtifactRef | None = None
    run_id: str = ""


# --- what model servers say ------------------------------------------------------------------------------------------


class EndpointReported(Message):
    type_: Literal["endpoint.reported.v1"] = Field(default="endpoint.reported.v1", exclude=True)
    name: str
    generation: int
    server: str
    url: str = Field(description="Base URL of the server.")
    status: Literal["ready", "failed", "stopped"]
    run_id: str = ""
    error: ErrorInfo | None = None


AnyEventData = (
    RunSubmitted | CancelRequested | PauseRequested | ResumeRequested | RetryRequested
    | AttemptStarted | AttemptSucceeded | AttemptFailed | AttemptYielded | AttemptUndeliverable
    | RunStarted | RunPaused | RunResumed | RunRetried | RunAdmitted | RunFinished
    | StageStarted | StagePlanned | StageFinished | TaskDied | ComputationEnded
    | EventRefused | ReleaseOverdue | ReleaseSuperseded | EndpointDesired | EndpointReported
)  # fmt: skip

EVENT_TYPES: dict[str, type[Contract]] = {cls.model_fields["type_"].default: cls for cls in get_args(AnyEventData)}


def make_event(
    data: Contract,
    *,
    source: str,
    subject: str,
    tenant: str = DEFAULT_TENANT,
    id: str = "",
    time: datetime | None = None,
    traceparent: str = "",
) -> Event:
    """Wrap typed data in an envelope; the type is the data model's own."""
    return Event(
        id=id or new_id("evt"),
        source=source,
        type=event_type(type(data)),
        subject=subject,
        time=time or datetime.now(UTC),
        tenant=tenant,
        data=data.model_dump(mode="json"),
        traceparent=traceparent,
    )


def event_type(cls: type[Contract]) -> str:
    return str(cls.model_fields["type_"].default)


def decode(event: Event) -> Contract:
    """Return the event's typed data.

    Raises:
        InvalidInput: The type is unknown or its data does not fit; such an event is journalled as refused.
    """
    return decode_data(event.type, event.data)


def decode_data(type: str, data: dict[str, Any]) -> Contract:
    """Return an event's typed data, given its type's versioned name. Raises InvalidInput as `decode` does."""
    cls = EVENT_TYPES.get(type)
    if cls is None:
        raise errors.InvalidInput(f"Unknown event type {type!r}; {errors.nearest(type, EVENT_TYPES)}", field="type")
    try:
        return cls.received(data)
    except ValueError as error:
        raise errors.InvalidInput(f"Data of type {type} does not fit its model: {error}", field="data") from error
