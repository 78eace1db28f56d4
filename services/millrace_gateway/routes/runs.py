"""Runs: submit, list, look, plan."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from millrace.contracts.pipelines import Graph, RunStatus
from millrace.contracts.views import PlanRequest, RunPage, RunView, SubmitRun
from millrace_gateway.backends import Using
from millrace_gateway.routes.answers import problems
from millrace_gateway.streams import wait_until_finished
from millrace_gateway.submissions import expanded, submission

router = APIRouter(prefix="/v1", tags=["runs"], responses=problems())


@router.post("/runs", status_code=201, operation_id="submitRun", responses=problems(409, 413))
async def submit(
    body: SubmitRun, backends: Using, response: Response, traceparent: Annotated[str, Header()] = ""
) -> RunView:
    """Start a run. Submitting the same run id or idempotency key again answers the first run."""
    event = await backends.call(submission, body, backends, traceparent)
    view = await backends.call(backends.ledger.submit, event)
    backends.nudge()
    response.headers["Location"] = f"/v1/runs/{view.run_id}"
    return view


@router.get("/runs", operation_id="listRuns")
async def list_runs(
    backends: Using,
    status: RunStatus | None = None,
    pipeline: str = "",
    label: Annotated[str, Query(description="`key=value`.", pattern="^([^=]+=.*)?$")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.")] = "",
) -> RunPage:
    """Runs, newest first."""
    key, _, value = label.partition("=")
    return await backends.call(
        backends.ledger.runs,
        backends.settings.tenant,
        status=status or "",
        pipeline=pipeline,
        label=(key, value) if label else None,
        limit=limit,
        cursor=cursor,
    )


@router.get("/runs/{run_id}", operation_id="getRun", responses=problems(404))
async def get_run(
    run_id: str,
    backends: Using,
    wait_s: Annotated[float, Query(ge=0, le=60, description="Answer when the run is over, at most so much later.")] = 0,
) -> RunView:
    """A run with its stages, as it is now."""
    return await wait_until_finished(backends, run_id, limit_s=wait_s)


@router.post("/plan", operation_id="planRun", responses=problems(413))
async def plan(body: PlanRequest, backends: Using) -> Graph:
    """The graph that a submission would execute, without starting it."""
    return await backends.call(expanded, body, backends)
