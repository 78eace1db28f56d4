"""What starts a run by itself: a clock, or new objects under a prefix. Both as written in a pipeline's `triggers`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator

from millrace.contracts.base import Contract, digest_of

Backlog = Literal["latest", "all", "skip"]

MAX_BACKLOG = 100
"""Runs that `backlog: all` starts for one trigger after an absence; older instants are passed over."""


class _Trigger(Contract):
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Values of parameters for its runs.")

    def id_in(self, tenant: str, pipeline: str) -> str:
        """Names the trigger for as long as it is written as it is."""
        return "trg_" + digest_of([tenant, pipeline, self.model_dump(mode="json")])[:26]


class CronTrigger(_Trigger):
    """`{cron: "0 3 * * *", timezone: Europe/Zurich}`: a run at each instant."""

    cron: str = Field(min_length=1, max_length=200, description="Five fields, or six with seconds first.")
    timezone: str = "UTC"
    backlog: Backlog = Field(
        default="latest",
        description="Which of the instants that passed while no conductor ran still start a run: the latest, all, or none.",
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        try:
            CronSim(value, datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"expected a cron expression such as '0 3 * * *' ({error})") from None
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected a time zone such as Europe/Zurich or UTC") from None
        return value

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The instants after one, in order, in UTC; an expression that never comes (30 February) ends at once."""
        from cronsim import CronSim

        for found in CronSim(self.cron, instant.astimezone(ZoneInfo(self.timezone))):
            yield found.astimezone(UTC)

    def next_after(self, instant: datetime) -> datetime | None:
        return next(self.after(instant), None)

    def due(self, scheduled: datetime, now: datetime) -> list[datetime]:
        """Instants to fire for, given the next scheduled one and the time: the backlog, collapsed by policy.

        `skip` fires an instant only if it is the one that has just come: nothing later has come since.
        """
        passed = [scheduled] if scheduled <= now else []
        for instant in islice(self.after(scheduled), None if self.backlog == "all" else 100_000):
            if instant > now:
                break
            passed.append(instant)
        if self.backlog == "latest":
            return passed[-1:]
        if self.backlog == "skip":
            return passed if len(passed) == 1 else []
        return passed[-MAX_BACKLOG:]


class ObjectsTrigger(_Trigger):
    """`{new_objects: "s3://bucket/prefix/", param: data}`: a run when what lies there has changed and come to rest."""

    new_objects: str = Field(pattern=r"^s3://[^#\s]+$", max_length=1000, description="The prefix, s3://bucket/prefix/.")
    param: str = Field(
        description="The data set parameter that gets the objects, pinned to the versions that were seen."
    )
    quiet_s: float = Field(
        default=60.0, ge=0, le=86_400, description="Nothing may have changed for so long: an upload may be under way."
    )
    marker: str = Field(
        default="", max_length=200, description="Name of an object, such as _SUCCESS, that says the upload is complete."
    )
    poll_s: float = Field(default=30.0, gt=0, le=86_400, description="How often to look.")


def _which(value: Any) -> str | None:
    """Which of the two a mapping means, by the key that only one of them has; brackets keep the tag out of error paths."""
    keys = value if isinstance(value, Mapping) else type(value).model_fields if isinstance(value, _Trigger) else ()
    return next((f"[{name}]" for name in ("cron", "new_objects") if name in keys), None)


Trigger = Annotated[
    Annotated[CronTrigger, Tag("[cron]")] | Annotated[ObjectsTrigger, Tag("[new_objects]")],
    Discriminator(
        _which,
        custom_error_type="trigger",
        custom_error_message="Expected `cron: EXPRESSION` or `new_objects: s3://bucket/prefix/`",
    ),
]


class ApplyPipeline(Contract):
    """Body of PUT /v1/pipelines/{name}: keep a pipeline, and let its triggers start runs."""

    pipeline: dict[str, JsonValue] = Field(description="The pipeline spec, as in the YAML file.")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="For all runs that its triggers start.")


class TriggerView(Contract):
    """A trigger of a kept pipeline."""

    trigger_id: str
    pipeline: str
    trigger: Trigger
    is_paused: bool = False
    next_at: datetime | None = Field(default=None, description="When it is due, or looked at, next.")
    latest_run: str = ""
    error: str = Field(default="", description="Why its latest firing started no run.")


class PipelineView(Contract):
    """A pipeline that is kept under its name."""

    name: str
    version: str = Field(description="Digest of the pipeline as written.")
    pipeline: dict[str, Any]
    params: dict[str, Any] = Field(default_factory=dict)
    applied_at: datetime
    triggers: tuple[TriggerView, ...] = ()
