"""Flow: what waits and what is at work, and how many tasks at once may hold a limit's key."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path

from millrace.contracts.flow import LIMIT_KEY_PATTERN, LimitView, QueuesView, SetLimit
from millrace.ledger import flow, limits
from millrace_gateway.backends import Using
from millrace_gateway.routes.answers import problems

router = APIRouter(prefix="/v1", tags=["flow"], responses=problems())

LimitKey = Annotated[str, Path(pattern=LIMIT_KEY_PATTERN)]


@router.get("/queues", operation_id="listQueues")
async def queues(backends: Using) -> QueuesView:
    """What waits and what is at work in each resource class, and the limits at which tasks wait."""
    settings = backends.settings
    seen_after = time.time() - settings.lease_s
    return await backends.call(flow.queues_of, backends.ledger.database, settings.tenant, seen_after=seen_after)


@router.get("/limits", operation_id="listLimits")
async def list_limits(backends: Using) -> list[LimitView]:
    """Limits that an operator has set, that a task holds, or that one waits for."""
    return await backends.call(limits.list_limits, backends.ledger.database, backends.settings.tenant)


@router.put("/limits/{key:path}", operation_id="setLimit")
async def set_limit(key: LimitKey, body: SetLimit, backends: Using) -> LimitView:
    """Set how many tasks at once may hold a key, whatever their stages say."""
    database, tenant = backends.ledger.database, backends.settings.tenant
    await backends.call(database.transact, lambda tx: limits.set_limit(tx, tenant, key, max=body.max))
    backends.nudge()
    return await backends.call(limits.find_limit, database, tenant, key)


@router.delete("/limits/{key:path}", operation_id="dropLimit")
async def drop_limit(key: LimitKey, backends: Using) -> LimitView:
    """Let the stages' own maxima hold again."""
    database, tenant = backends.ledger.database, backends.settings.tenant
    await backends.call(database.transact, lambda tx: limits.drop_limit(tx, tenant, key))
    backends.nudge()
    return await backends.call(limits.find_limit, database, tenant, key)
