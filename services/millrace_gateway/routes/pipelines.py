"""Kept pipelines and their triggers: apply, list, forget, hold, let go on."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path

from millrace import errors
from millrace.contracts.graph import expand
from millrace.contracts.ids import NAME_PATTERN
from millrace.contracts.loading import load_spec
from millrace.contracts.pipelines import PipelineSpec
from millrace.contracts.triggers import ApplyPipeline, ObjectsTrigger, PipelineView, TriggerView
from millrace.ledger import triggers as kept
from millrace.ledger.database import Transaction
from millrace_gateway.backends import Backends, Using
from millrace_gateway.routes.answers import problems
from millrace_gateway.submissions import check_stored

router = APIRouter(prefix="/v1", tags=["pipelines"], responses=problems())

PipelineName = Annotated[str, Path(pattern=NAME_PATTERN)]
TriggerId = Annotated[str, Path(max_length=100, pattern=r"^[\x21-\x7e]+$")]


@router.put("/pipelines/{name}", operation_id="applyPipeline", responses=problems(413))
async def apply(name: PipelineName, body: ApplyPipeline, backends: Using) -> PipelineView:
    """Keep a pipeline under its name, in place of what was there; its triggers start runs from now on."""
    await backends.call(_apply, name, body, backends)
    return await backends.call(_pipeline, backends, name)


@router.get("/pipelines", operation_id="listPipelines")
async def pipelines(backends: Using) -> list[PipelineView]:
    """Kept pipelines with their triggers."""
    return await backends.call(kept.pipelines, backends.ledger.database, backends.settings.tenant)


@router.get("/pipelines/{name}", operation_id="getPipeline", responses=problems(404))
async def pipeline(name: PipelineName, backends: Using) -> PipelineView:
    """One kept pipeline."""
    return await backends.call(_pipeline, backends, name)


@router.delete("/pipelines/{name}", operation_id="forgetPipeline", responses=problems(404))
async def forget(name: PipelineName, backends: Using) -> PipelineView:
    """Forget a pipeline and its triggers; the answer is what it was. Its runs stay."""
    tenant = backends.settings.tenant
    view = await backends.call(_pipeline, backends, name)
    await backends.call(backends.ledger.database.transact, lambda tx: kept.forget_pipeline(tx, tenant, name))
    return view


@router.post("/triggers/{trigger_id}/pause", operation_id="pauseTrigger", responses=problems(404))
async def pause(trigger_id: TriggerId, backends: Using) -> TriggerView:
    """Hold a trigger: it starts nothing until it is resumed."""
    return await backends.call(_set_paused, backends, trigger_id, is_paused=True)


@router.post("/triggers/{trigger_id}/resume", operation_id="resumeTrigger", responses=problems(404))
async def resume(trigger_id: TriggerId, backends: Using) -> TriggerView:
    """Let a trigger go on from now. What came while it was held starts nothing, but objects that lie there do."""
    return await backends.call(_set_paused, backends, trigger_id, is_paused=False)


def _apply(name: str, body: ApplyPipeline, backends: Backends) -> None:
    spec = load_spec(body.pipeline)
    if spec.name != name:
        raise errors.InvalidSpec(
            f"The pipeline's name is {spec.name!r}, and the address says {name!r}.",
            field="name",
            remedy="Make them equal.",
        )
    tenant = backends.settings.tenant
    check_triggers(spec, body, tenant)
    check_stored(backends, spec, body.params)
    backends.ledger.database.transact(lambda tx: kept.apply_pipeline(tx, tenant, spec, body.params, now=time.time()))


def check_triggers(spec: PipelineSpec, body: ApplyPipeline, tenant: str) -> None:
    """Expand what each trigger would run, so that it is refused now and not at night.

    Raises:
        InvalidSpec: With the path of the field.
    """
    if not spec.triggers:
        expand(spec, body.params, tenant=tenant)
    for number, trigger in enumerate(spec.triggers):
        values = {**body.params, **trigger.params}
        if isinstance(trigger, ObjectsTrigger):
            param = spec.params.get(trigger.param)
            if param is None or param.type != "dataset":
                raise errors.InvalidSpec(
                    f"The pipeline has no data set parameter {trigger.param!r}.",
                    field=f"triggers.{number}.param",
                    remedy=f"Add `{trigger.param}: dataset` to `params`, or name another.",
                )
            values[trigger.param] = trigger.new_objects
        expand(spec, values, tenant=tenant)


def _pipeline(backends: Backends, name: str) -> PipelineView:
    found = kept.pipelines(backends.ledger.database, backends.settings.tenant)
    view = next((p for p in found if p.name == name), None)
    if view is None:
        raise kept.no_pipeline(name)
    return view


def _set_paused(backends: Backends, trigger_id: str, *, is_paused: bool) -> TriggerView:
    tenant, database = backends.settings.tenant, backends.ledger.database

    def work(tx: Transaction) -> None:
        kept.set_paused(tx, tenant, trigger_id, is_paused=is_paused, now=time.time())

    database.transact(work)
    return next(row.view() for row in kept.triggers(database, tenant) if row.trigger_id == trigger_id)
