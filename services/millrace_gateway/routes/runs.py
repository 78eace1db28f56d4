"""Runs: submit, list, look, cancel."""

from __future__ import annotations

import re
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.events import CancelRequested, Event, RunSubmitted, make_event
from millrace.contracts.graph import expand
from millrace.contracts.ids import new_run_id
from millrace.contracts.loading import load_spec
from millrace.contracts.params import resolve_params
from millrace.contracts.pipelines import Graph, RunStatus
from millrace.contracts.views import PlanRequest, RunPage, RunView, SubmitRun
from millrace.ledger.uploads import is_kept
from millrace.runtime.telemetry import new_trace
from millrace.store.artifacts import refresh_artifact
from millrace_gateway.backends import Backends, Using
from millrace_gateway.routes.answers import problems
from millrace_gateway.streams import wait_until_finished

router = APIRouter(prefix="/v1", tags=["runs"], responses=problems())

SOURCE = "client"
TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


class CancelRun(Contract):
    """Body of POST /v1/runs/{run_id}/cancel."""

    reason: str = Field(default="", max_length=500)


@router.post("/runs", status_code=201, operation_id="submitRun", responses=problems(409, 413))
async def submit(
    body: SubmitRun, backends: Using, response: Response, traceparent: Annotated[str, Header()] = ""
) -> RunView:
    """Start a run. Submitting the same run id or idempotency key again answers the first run."""
    event = await backends.call(_submission, body, backends, traceparent)
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


@router.post("/runs/{run_id}/cancel", operation_id="cancelRun", responses=problems(404, 409))
async def cancel(run_id: str, backends: Using, body: CancelRun | None = None) -> RunView:
    """Ask a run to stop. It ends `cancelled` once its attempts did, unless its end came first."""
    data = CancelRequested(run_id=run_id, reason=body.reason if body else "")
    event = make_event(data, source=SOURCE, subject=run_id, tenant=backends.settings.tenant)
    view = await backends.call(backends.ledger.request_cancel, event)
    backends.nudge()
    return view


@router.post("/plan", operation_id="planRun", responses=problems(413))
async def plan(body: PlanRequest, backends: Using) -> Graph:
    """The graph that a submission would execute, without starting it."""
    return await backends.call(_expanded, body, backends)


def _submission(body: SubmitRun, backends: Backends, traceparent: str) -> Event:
    tenant = backends.settings.tenant
    run_id = body.run_id or new_run_id()
    trace = {"traceparent": traceparent} if TRACEPARENT.match(traceparent) else new_trace()
    data = RunSubmitted(
        run_id=run_id,
        graph=_expanded(body, backends),
        params=body.params,
        labels=body.labels,
        priority=body.priority,
        idempotency_key=body.idempotency_key,
        trace=trace,
    )
    return make_event(data, source=SOURCE, subject=run_id, tenant=tenant, traceparent=trace["traceparent"])


def _expanded(body: SubmitRun | PlanRequest, backends: Backends) -> Graph:
    """Validate the spec and expand it; data sets that are named by digest must be in this tenant's store."""
    spec = load_spec(body.pipeline)
    graph = expand(spec, body.params, tenant=backends.settings.tenant, seed=body.seed)
    for name, value in resolve_params(spec, body.params).items():
        if (
            not isinstance(value, str)
            and spec.params[name].type == "dataset"
            and not _is_stored(backends, value.digest)
        ):
            raise errors.InvalidSpec(
                f"No artifact {value.digest[:12]} is in the store.",
                field=f"params.{name}",
                remedy="Upload the data first: POST /v1/datasets.",
            )
    return graph


def _is_stored(backends: Backends, digest: str) -> bool:
    """Whether an artifact is in the store, and will be when the run that is to be submitted reads it."""
    settings = backends.settings
    if is_kept(
        backends.ledger.database, settings.tenant, digest,
        now=time.time(), days=settings.gc_uploads_days, grace_s=settings.gc_grace_s,
    ):  # fmt: skip
        return backends.store.exists(digest)
    return refresh_artifact(backends.store, digest)
