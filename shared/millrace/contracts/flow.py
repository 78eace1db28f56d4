"""What the HTTP API answers about flow: queues of each resource class, and limits by key."""

from __future__ import annotations

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.commands import ResourceClass

LIMIT_KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}$"


class SetLimit(Contract):
    """Body of PUT /v1/limits/{key}."""

    max: int = Field(ge=0, le=100_000, description="0 lets nothing start.")


class LimitView(Contract):
    """A limit: how many tasks at once may hold its key, and how many do."""

    key: str
    max: int | None = Field(
        description="What holds now: the operator's, else the smallest that a task names which holds the key or waits for "
        "it; null where there is none of them."
    )
    ruled: bool = Field(description="Whether the operator set it.")
    held: int = Field(description="Tasks that hold it: dispatched or running.")
    waiting: int = Field(description="Tasks that are pending.")


class QueueView(Contract):
    """One resource class of one service: what names a command queue."""

    service: str
    resource_class: ResourceClass
    slots: int = Field(description="Announced by workers that were heard of within a lease.")
    pending: int
    dispatched: int = Field(description="Sent to the broker, not yet begun.")
    running: int
    others_held: int = Field(description="Tasks of other tenants that are dispatched or running.")


class QueuesView(Contract):
    """Answer of GET /v1/queues."""

    queues: tuple[QueueView, ...]
    saturated: tuple[LimitView, ...] = Field(description="Limits at which tasks wait.")
