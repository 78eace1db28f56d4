"""Where results come from: why a stage was computed, what an artifact was made of, and whether a replay makes the same."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.events import Event, make_event
from millrace.contracts.ids import new_run_id
from millrace.contracts.provenance import CacheView, ComparisonView, LineageView
from millrace.contracts.views import RunView
from millrace.ledger import explaining, lineage, replaying
from millrace.runtime.telemetry import new_trace
from millrace_gateway.backends import Backends, Using
from millrace_gateway.routes.answers import problems
from millrace_gateway.submissions import SOURCE

router = APIRouter(prefix="/v1", tags=["provenance"], responses=problems(404))


class ReplayRun(Contract):
    """Body of POST /v1/runs/{run_id}/replay."""

    run_id: str = Field(
        default="", description="Of the replay, made by the client, so that asking twice is once.",
        pattern=r"^(run_[0-9a-z]{26})?$",
    )  # fmt: skip


@router.get("/runs/{run_id}/stages/{stage}/cache", operation_id="explainStage")
async def explain(run_id: str, stage: str, backends: Using) -> CacheView:
    """Whether a stage was answered from the cache; if not, which fields of its key differ from the nearest earlier run's."""
    return await backends.call(explaining.explain, backends.ledger.database, backends.settings.tenant, run_id, stage)


@router.get("/lineage/{digest}", operation_id="getLineage")
async def get_lineage(
    digest: Annotated[
        str, Path(max_length=100, description="Of an artifact, or its start; a run's id; an endpoint's name.")
    ],
    backends: Using,
    forward: Annotated[bool, Query(description="What came of it, in place of what it came from.")] = False,
) -> LineageView:
    """The tree of artifacts and stages behind something, back to its data, code and pipeline; or forward to endpoints."""
    database, tenant = backends.ledger.database, backends.settings.tenant
    return await backends.call(lineage.lineage, database, tenant, digest, forward=forward)


@router.post("/runs/{run_id}/replay", status_code=201, operation_id="replayRun", responses=problems(409))
async def replay(run_id: str, backends: Using, response: Response, body: ReplayRun | None = None) -> RunView:
    """Execute a run's graph again, as a new run without the cache, leaving out what has effects outside."""
    event = await backends.call(_replay, run_id, backends, body.run_id if body else "")
    view = await backends.call(backends.ledger.submit, event)
    backends.nudge()
    response.headers["Location"] = f"/v1/runs/{view.run_id}"
    return view


@router.get("/runs/{run_id}/comparison", operation_id="compareRuns")
async def comparison(
    run_id: str, backends: Using, replay: Annotated[str, Query(description="The run to compare with.")]
) -> ComparisonView:
    """What two runs of one graph made, compared by digest, stage by stage."""
    return await backends.call(_compare, run_id, replay, backends)


def _replay(run_id: str, backends: Backends, replay_id: str) -> Event:
    ledger, tenant = backends.ledger, backends.settings.tenant
    graph = replaying.graph_of(ledger.database, tenant, run_id)
    trace = new_trace()
    data = replaying.replay_of(ledger.run(tenant, run_id), graph, run_id=replay_id or new_run_id(), trace=trace)
    return make_event(data, source=SOURCE, subject=data.run_id, tenant=tenant, traceparent=trace["traceparent"])


def _compare(run_id: str, replay: str, backends: Backends) -> ComparisonView:
    ledger, tenant = backends.ledger, backends.settings.tenant
    graph = replaying.graph_of(ledger.database, tenant, run_id)
    return replaying.compare(graph, ledger.run(tenant, run_id), ledger.run(tenant, replay))
