"""Commands: imperative requests to a worker. They carry ids, the fence, config and references, never bytes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.base import Contract, Message
from millrace.contracts.ids import DEFAULT_TENANT

Phase = Literal["plan", "work", "merge"]
ResourceClass = Literal["cpu", "gpu"]

EXECUTE_TASK = "millrace.execute"
"""The Celery task's name; its only argument is an ExecuteAttempt as JSON."""


class FunctionCode(Contract):
    """Where a `@millrace.stage` function's source is."""

    code: ArtifactRef
    module: str = Field(description="Dotted name of the module in the code artifact.")
    name: str = Field(description="The function's name in that module.")


class Foreach(Contract):
    """What a stage is mapped over: literal items, or the shards of the data set at an input port."""

    items: tuple[JsonValue, ...] = ()
    shards_of: str = Field(default="", description="An input port's name; empty: the items.")


class ExecuteAttempt(Message):
    """Execute one attempt of one task."""

    version: Literal[1] = 1
    tenant: str = DEFAULT_TENANT
    run_id: str
    stage: str
    kind: str
    service: str
    resource_class: ResourceClass = "cpu"
    phase: Phase = Field(description="The first attempt plans; a one-task plan goes on within it.")
    index: int = Field(ge=0, description="The task's index in the accepted plan; 0 for plan and merge.")
    round: int = Field(default=0, ge=0, description="Which plan of the stage: merge may answer with another plan.")
    attempt_id: str
    fence: int = Field(ge=1, description="Number of the attempt; a result with a lower fence is refused.")
    config: dict[str, Any] = Field(
        default_factory=dict, description="The stage's `with`, defaults included, parameters resolved."
    )
    inputs: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = Field(default_factory=dict)
    plan: ArtifactRef | None = Field(default=None, description="The accepted plan, for work and merge.")
    results: ArtifactRef | None = Field(default=None, description="Paged index of the tasks' results, for merge.")
    function: FunctionCode | None = None
    foreach: Foreach | None = None
    outputs: dict[str, ArtifactType] = Field(default_factory=dict, description="The ports that the stage must fill.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables of the child.")
    code_digest: str = Field(default="", description="Digest of the stage code that the conductor expects; empty: any.")
    seed: int = 0
    start_deadline_s: float = Field(
        default=0, ge=0, description="0: none. Runs only while the class has live capacity."
    )
    cpu: float = Field(default=1, gt=0, description="Cores that the stage asks for; its child may use as many threads.")
    timeout_s: float | None = Field(default=None, gt=0, description="Hard limit of one attempt.")
    soft_timeout_s: float | None = Field(
        default=None, gt=0, description="When the attempt is asked to save a checkpoint and stop."
    )
    trace: dict[str, str] = Field(default_factory=dict, description="W3C trace context headers.")


def command_queue(service: str, resource_class: str) -> str:
    """The queue's name. Arguments of a queue are immutable, so a change of them is a new version."""
    return f"commands.{service}.{resource_class}.v1"
