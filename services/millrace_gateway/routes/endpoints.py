"""Models and endpoints: what is released, where it is served, and asking it."""

from __future__ import annotations

import itertools
from typing import Annotated

import httpx
import structlog
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from millrace import errors
from millrace.contracts.ids import NAME_PATTERN
from millrace.contracts.views import (
    EndpointView,
    GenerateRequest,
    GenerateResponse,
    ModelView,
    PredictRequest,
    PredictResponse,
)
from millrace_gateway.backends import Backends, Using
from millrace_gateway.routes.answers import problems, raw_json

router = APIRouter(prefix="/v1", tags=["endpoints"], responses=problems())

EndpointName = Annotated[str, Path(pattern=NAME_PATTERN)]

log = structlog.get_logger()
_turn = itertools.count()


@router.get("/models", operation_id="listModels")
async def models(backends: Using) -> list[ModelView]:
    """Released models, newest first."""
    return await backends.call(backends.ledger.models, backends.settings.tenant)


@router.get("/endpoints", operation_id="listEndpoints")
async def endpoints(backends: Using) -> list[EndpointView]:
    """Endpoints: where each should be, and what its servers report."""
    return await backends.call(backends.ledger.endpoints, backends.settings.tenant)


@router.get("/endpoints/{name}", operation_id="getEndpoint", responses=problems(404))
async def endpoint(name: EndpointName, backends: Using) -> EndpointView:
    """One endpoint."""
    return await backends.call(backends.ledger.endpoint, backends.settings.tenant, name)


@router.delete("/endpoints/{name}", operation_id="stopEndpoint", responses=problems(404))
async def stop(name: EndpointName, backends: Using) -> EndpointView:
    """Stop serving. The releases stay, and a later deployment starts the endpoint again."""
    view = await backends.call(backends.ledger.stop_endpoint, backends.settings.tenant, name)
    backends.nudge()
    return view


@router.post(
    "/endpoints/{name}/predict",
    operation_id="predict",
    response_model=PredictResponse,
    responses=problems(404, 413),
    openapi_extra=raw_json(PredictRequest),
)
async def predict(name: EndpointName, request: Request, backends: Using) -> Response:
    """Ask an endpoint's model about rows."""
    return await _forward(backends, name, "predict", await request.body())


@router.post(
    "/endpoints/{name}/generate",
    operation_id="generate",
    response_model=GenerateResponse,
    responses=problems(404, 413),
    openapi_extra=raw_json(GenerateRequest),
)
async def generate(name: EndpointName, request: Request, backends: Using) -> Response:
    """Let an endpoint's language model go on from a prompt."""
    return await _forward(backends, name, "generate", await request.body())


async def _forward(backends: Backends, name: str, verb: str, body: bytes) -> Response:
    """Pass the body to a ready server and its answer back, undecoded. An unreachable server is passed over."""
    view = await backends.call(backends.ledger.endpoint, backends.settings.tenant, name)
    urls = list(view.urls)
    shift = next(_turn) % len(urls) if urls else 0
    for url in urls[shift:] + urls[:shift]:
        try:
            request = backends.proxy().build_request(
                "POST", f"{url}/v1/endpoints/{name}/{verb}", content=body, headers={"Content-Type": "application/json"}
            )
            answer = await backends.proxy().send(request, stream=True)
            kind = answer.headers.get("content-type", "")
            if kind.startswith("text/event-stream"):
                return StreamingResponse(
                    answer.aiter_raw(), answer.status_code, media_type=kind, background=_closing(answer)
                )
            await answer.aread()
        except httpx.ConnectError as error:
            log.warning("server_unreachable", endpoint=name, url=url, reason=str(error))
            continue
        except httpx.TimeoutException:
            limit = backends.settings.gateway_proxy_timeout_s
            raise errors.DeadlineExceeded(f"Endpoint {name!r} did not answer within {limit:g} s.") from None
        except httpx.HTTPError as error:
            raise errors.Unavailable(f"Endpoint {name!r} broke off its answer: {error}.", remedy="Try again.") from None
        kept = {"Retry-After": answer.headers["retry-after"]} if "retry-after" in answer.headers else None
        return Response(answer.content, answer.status_code, headers=kept, media_type=kind)
    raise _not_served(view)


def _closing(answer: httpx.Response) -> BackgroundTask:
    """Give the connection back once the stream has been passed on, or the caller has left."""
    return BackgroundTask(answer.aclose)


def _not_served(view: EndpointView) -> errors.MillraceError:
    if view.status == "stopped":
        return errors.Conflict(f"Endpoint {view.name!r} is stopped.", remedy="Deploy a model to it.")
    reason = f": {view.error.message}" if view.error else "."
    return errors.Unavailable(
        f"No server answers for endpoint {view.name!r} ({view.status}){reason}",
        remedy="Start one with `millrace serve`, or wait until it is ready.",
    )
