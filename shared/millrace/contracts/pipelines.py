"""The pipeline file as written (PipelineSpec) and the graph as executed (Graph)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.base import Contract
from millrace.contracts.commands import Foreach, FunctionCode, ResourceClass
from millrace.contracts.ids import DEFAULT_TENANT, Name
from millrace.contracts.stages import Effect, Port
from millrace.contracts.triggers import Trigger

RunStatus = Literal["queued", "running", "paused", "succeeded", "failed", "rejected", "cancelled"]
StageStatus = Literal["pending", "running", "succeeded", "failed", "rejected", "skipped", "cancelled"]

ParamType = Literal["dataset", "string", "integer", "float", "boolean", "json"]


class Param(Contract):
    """A parameter of the pipeline. `data: dataset` is short for `data: {type: dataset}`."""

    model_config = ConfigDict(allow_inf_nan=False)  # JSON has neither, and would carry them as null

    type: ParamType
    default: JsonValue = Field(
        default=None, description="Used when the caller gives none; without one the parameter is required."
    )
    description: str = ""


def _param(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Resources(Contract):
    """What one attempt needs."""

    model_config = ConfigDict(allow_inf_nan=False)

    gpu: float = Field(default=0, ge=0, description="Number of GPUs; 0 runs on the CPU.")
    cpu: float = Field(default=1, gt=0, description="Number of cores.")
    memory_bytes: int = Field(default=0, ge=0, description="0: no limit.")

    @property
    def resource_class(self) -> ResourceClass:
        return "gpu" if self.gpu > 0 else "cpu"


class Retry(Contract):
    """How often a task is tried. Only retryable errors are."""

    model_config = ConfigDict(allow_inf_nan=False)

    max_attempts: int = Field(default=3, ge=1, le=20)
    backoff_s: float = Field(
        default=1.0, ge=0, le=3600, description="Wait before the second attempt; doubles each time, with jitter."
    )
    max_losses: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Attempts that may be lost with their child or worker; then the task is poison.",
    )
    max_outages: int = Field(
        default=20, ge=1, le=1000, description="Attempts that a broker or store that does not answer may cost."
    )


class Limit(Contract):
    """How many tasks at once may hold a key, in all runs of the tenant, such as `gpu:0` or `warehouse`."""

    key: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
    max: int = Field(ge=1, le=100_000)


class FunctionSpec(Contract):
    """A `@millrace.stage` function: where its code is and which ports it has."""

    code: FunctionCode
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="Names of its other parameters with their JSON Schemas."
    )
    has_plan: bool = False
    has_merge: bool = False


class StageSpec(Contract):
    """A stage as written. Its own configuration lives only under `with`."""

    kind: str = Field(default="", description="Defaults to the stage's name.")
    inputs: dict[str, JsonValue] = Field(
        default_factory=dict, description="`port: stage.port`, `port: $params.name`, or a list of them."
    )
    needs: tuple[str, ...] = Field(default=(), description="Stages that must succeed before, beyond the inputs.")
    when: str = Field(default="", description="A condition over params, verdicts and metrics; false skips the stage.")
    foreach: JsonValue = Field(
        default=None,
        description="A list, `$params.name` (a list), or `stage.port` (a data set): one task per item or per shard.",
    )
    sweep: dict[str, JsonValue] | None = Field(
        default=None, description="Search over `with`; needs a version that has sweeps."
    )
    resources: Resources = Resources()
    retry: Retry = Retry()
    timeout_s: float | None = Field(default=None, gt=0, description="Hard limit of one attempt.")
    soft_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="When an attempt is asked to save a checkpoint and stop; another goes on from it.",
    )
    limit: Limit | None = Field(default=None, description="`{key: gpu:0, max: 1}`: at most so many tasks at once.")
    cache: bool = True
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables of the child.")
    function: FunctionSpec | None = None
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class PipelineSpec(Contract):
    """A pipeline as written, in YAML, JSON or Python."""

    api: Literal["millrace/v1"] = "millrace/v1"
    name: Name
    description: str = ""
    params: dict[str, Annotated[Param, BeforeValidator(_param)]] = Field(default_factory=dict)
    triggers: tuple[Trigger, ...] = Field(
        default=(), description="What starts a run by itself, once the pipeline is applied: `cron:` or `new_objects:`."
    )
    max_runs: int | None = Field(default=None, ge=1, description="At most so many of its runs at once; others wait.")
    stages: dict[str, StageSpec] = Field(
        min_length=1, description="In order; a stage may use any earlier or later one, cycles refused."
    )


class Binding(Contract):
    """Where an input comes from: another stage's output, or an artifact known at submit."""

    stage: str = ""
    port: str = ""
    artifact: ArtifactRef | None = None


class GraphStage(Contract):
    """A stage as executed: everything resolved, nothing implied."""

    name: str
    kind: str
    service: str
    config: dict[str, Any]
    inputs: dict[str, Binding | tuple[Binding, ...]]
    outputs: dict[str, ArtifactType]
    needs: tuple[str, ...] = Field(description="All stages this one waits for, those of its inputs included.")
    when: str = ""
    foreach: Foreach | None = None
    resources: Resources = Resources()
    retry: Retry = Retry()
    timeout_s: float | None = None
    soft_timeout_s: float | None = None
    limit: Limit | None = None
    cache: bool = True
    env: dict[str, str] = Field(default_factory=dict)
    effect: Effect = "none"
    endpoint: str = Field(
        default="", description="The endpoint that a comparison with the current release, or a release, is about."
    )
    function: FunctionSpec | None = None
    implied: bool = Field(default=False, description="Added by expansion, not written by the user.")


class Graph(Contract):
    """The expanded pipeline that a run executes. Its digest is the pipeline's version."""

    version: Literal[1] = 1
    pipeline: str
    tenant: str = DEFAULT_TENANT
    spec_digest: str
    stages: tuple[GraphStage, ...] = Field(description="In topological order.")
    seed: int = 0
    max_runs: int | None = None
