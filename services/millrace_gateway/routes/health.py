"""Whether the gateway lives, whether what it needs answers, and its counters."""

from __future__ import annotations

from fastapi import APIRouter, Response

from millrace.contracts.base import Contract
from millrace.contracts.views import ReadyView
from millrace_gateway.backends import Using
from millrace_gateway.routes.answers import binary

router = APIRouter(tags=["health"])


class Alive(Contract):
    """Answer of /healthz."""

    status: str = "ok"


@router.get("/healthz", operation_id="isAlive")
async def healthz() -> Alive:
    """Answers as long as the process does."""
    return Alive()


@router.get("/readyz", operation_id="isReady", responses={503: {"model": ReadyView, "description": "Not ready."}})
async def readyz(backends: Using, response: Response) -> ReadyView:
    """Whether broker, store and ledger answer, each with the reason and what to do where one does not."""
    view = await backends.ready()
    response.status_code = 200 if view.ready else 503
    return view


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={200: binary("text/plain", "Prometheus text.")},
)
def metrics() -> Response:
    """Counters of this process."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
