"""A run's events, as a stream or a list, and its logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from millrace.contracts.events import AttemptFailed, AttemptSucceeded
from millrace.contracts.views import TERMINAL_STATUSES, EventView
from millrace.store.artifacts import read_manifest
from millrace_gateway.backends import Backends, Using
from millrace_gateway.downloads import blob_chunks
from millrace_gateway.routes.answers import binary, problems
from millrace_gateway.streams import stream_events

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["runs"], responses=problems(404))

SSE = "text/event-stream"
PAGE = 500
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A JSON list of at most `limit` events, or with `Accept: text/event-stream` a stream: the `id` "
        "is `seq`, resumable by `Last-Event-ID`; in between, `event: signal` carries SignalView without an id.",
        "content": {SSE: {"schema": {"type": "string"}}},
    },
    204: {"description": "The stream's run is over and nothing comes after `Last-Event-ID`: do not connect again."},
}


@router.get("/events", operation_id="listEvents", response_model=list[EventView], responses=STREAM)
async def events(
    run_id: str,
    backends: Using,
    after: Annotated[int, Query(ge=0, description="Only events with a higher `seq`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE, description="Of the JSON list.")] = PAGE,
    signals: Annotated[bool, Query(description="Whether the stream carries progress, metrics and log lines.")] = True,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[int, Header(ge=0, description="Resume the stream after this `seq`.")] = 0,
) -> Response | list[EventView]:
    """What happened to a run, in order."""
    view = await backends.call(backends.ledger.run, backends.settings.tenant, run_id)
    if SSE not in accept:
        return await backends.call(backends.ledger.events, backends.settings.tenant, run_id, after=after, limit=limit)
    start = min(max(after, last_event_id), view.seq)
    is_over = view.status in TERMINAL_STATUSES
    if is_over and start >= view.seq:
        return Response(status_code=204)
    stream = stream_events(backends, run_id, after=start, signals=signals, may_be_over=is_over)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type=SSE, headers=headers)


@router.get(
    "/logs",
    operation_id="getLogs",
    response_class=StreamingResponse,
    responses={200: binary("text/plain", "Log lines of finished attempts, oldest attempt first.")},
)
async def logs(
    run_id: str,
    backends: Using,
    stage: Annotated[str, Query(description="Only of this stage; empty: of all.")] = "",
) -> StreamingResponse:
    """What the attempts of a run wrote. Lines of an attempt that still works come with the event stream."""
    await backends.call(backends.ledger.run, backends.settings.tenant, run_id)
    return StreamingResponse(_log_text(backends, run_id, stage), media_type="text/plain; charset=utf-8")


async def _log_text(backends: Backends, run_id: str, stage: str) -> AsyncIterator[bytes]:
    after = 0
    while page := await backends.call(
        backends.ledger.events, backends.settings.tenant, run_id, after=after, limit=PAGE
    ):
        after = page[-1].seq
        for attempt in _ended_attempts(page):
            if attempt.logs is None or stage not in ("", attempt.stage):
                continue
            yield f"=== {attempt.holder.attempt_id}\n".encode()
            manifest = await backends.call(read_manifest, backends.store, attempt.logs.digest)
            for entry in manifest.files:
                async for chunk in blob_chunks(backends, entry.digest):
                    yield chunk


def _ended_attempts(page: list[EventView]) -> Iterator[AttemptSucceeded | AttemptFailed]:
    for event in page:
        if event.type in ("attempt.succeeded.v1", "attempt.failed.v1"):
            fact = event.fact()
            assert isinstance(fact, AttemptSucceeded | AttemptFailed)
            yield fact
