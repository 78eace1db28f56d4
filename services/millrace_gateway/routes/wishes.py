"""What one does with a run that is there: cancel, pause, resume, retry, run again; and the tasks that were set aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from millrace.contracts.base import Contract, digest_of
from millrace.contracts.events import (
    CancelRequested,
    Origin,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    event_type,
    make_event,
)
from millrace.contracts.views import TERMINAL_STATUSES, DeadLetterView, RerunRun, RunView
from millrace_gateway.backends import Backends, Using
from millrace_gateway.routes.answers import problems
from millrace_gateway.streams import wait_until
from millrace_gateway.submissions import SOURCE, repeated, submission

router = APIRouter(prefix="/v1", tags=["runs"], responses=problems())

SETTLE_S = 5.0
"""How long an answer waits for the conductor to do what was accepted; it is done anyway."""


WishKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=200, description="The same wish again, with the same key, changes nothing."
    ),
]
"""A retry that is sent again, because its answer was lost, must not revive a run that has failed again meanwhile."""


class Reason(Contract):
    """Body of a wish: why, as it stands in the journal."""

    reason: str = Field(default="", max_length=500)


@router.post("/runs/{run_id}/cancel", operation_id="cancelRun", responses=problems(404, 409))
async def cancel(run_id: str, backends: Using, body: Reason | None = None, key: WishKey = "") -> RunView:
    """Ask a run to stop. It ends `cancelled` once its attempts did, unless its end came first."""
    return await _wish(backends, CancelRequested(run_id=run_id, reason=body.reason if body else ""), key)


@router.post("/runs/{run_id}/pause", operation_id="pauseRun", responses=problems(404, 409))
async def pause(run_id: str, backends: Using, body: Reason | None = None, key: WishKey = "") -> RunView:
    """Start nothing more of a run. What works saves a checkpoint, if it can, and is handed back."""
    await _wish(backends, PauseRequested(run_id=run_id, reason=body.reason if body else ""), key)
    return await _settled(backends, run_id, lambda view: view.status == "paused")


@router.post("/runs/{run_id}/resume", operation_id="resumeRun", responses=problems(404, 409))
async def resume(run_id: str, backends: Using, key: WishKey = "") -> RunView:
    """Go on with a paused run."""
    await _wish(backends, ResumeRequested(run_id=run_id), key)
    return await _settled(backends, run_id, lambda view: view.status != "paused")


@router.post("/runs/{run_id}/retry", operation_id="retryRun", responses=problems(404, 409))
async def retry(run_id: str, backends: Using, key: WishKey = "") -> RunView:
    """Go on with a run that failed, was rejected or cancelled: stages that succeeded are kept, the others begin again."""
    return await _wish(backends, RetryRequested(run_id=run_id), key)


@router.post("/runs/{run_id}/rerun", status_code=201, operation_id="rerunRun", responses=problems(404, 409, 413))
async def rerun(
    run_id: str,
    backends: Using,
    response: Response,
    body: RerunRun | None = None,
    traceparent: Annotated[str, Header()] = "",
) -> RunView:
    """Start the pipeline of a run again, as a new run, with what the body changes."""
    written = await backends.call(backends.ledger.written, backends.settings.tenant, run_id)
    origin = Origin(kind="rerun", of=run_id)
    again = repeated(written, body or RerunRun())
    event = await backends.call(submission, again, backends, traceparent, origin=origin)
    view = await backends.call(backends.ledger.submit, event)
    backends.nudge()
    response.headers["Location"] = f"/v1/runs/{view.run_id}"
    return view


@router.get("/dead-letters", operation_id="listDeadLetters")
async def dead_letters(
    backends: Using,
    run_id: Annotated[str, Query(description="Only of this run; empty: of all.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[DeadLetterView]:
    """Tasks that were set aside after their last attempt, with the evidence; newest first."""
    return await backends.call(backends.ledger.dead_letters, backends.settings.tenant, run_id=run_id, limit=limit)


async def _wish(backends: Backends, wish: Contract, key: str) -> RunView:
    run_id, tenant = str(getattr(wish, "run_id", "")), backends.settings.tenant
    wish_id = f"wish_{digest_of([tenant, run_id, event_type(type(wish)), key])}" if key else ""
    event = make_event(wish, source=SOURCE, subject=run_id, tenant=tenant, id=wish_id)
    view = await backends.call(backends.ledger.wish, event)
    backends.nudge()
    return view


async def _settled(backends: Backends, run_id: str, is_done: Callable[[RunView], bool]) -> RunView:
    return await wait_until(
        backends, run_id, lambda view: is_done(view) or view.status in TERMINAL_STATUSES, limit_s=SETTLE_S
    )
