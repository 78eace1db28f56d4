"""The application: routes, error answers and the OpenAPI document put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from millrace.contracts.base import Contract
from millrace.contracts.views import GenerateRequest, PredictRequest, SignalView
from millrace_gateway import problems
from millrace_gateway.routes import (
    artifacts,
    catalog,
    endpoints,
    events,
    flow,
    health,
    pipelines,
    provenance,
    runs,
    wishes,
)

UNROUTED: tuple[type[Contract], ...] = (PredictRequest, GenerateRequest, SignalView)
"""Models that no route's signature names: bodies that are passed on undecoded, and what the event stream carries."""


def create_api() -> FastAPI:
    """The API. Who serves it sets `state.backends`."""
    api = FastAPI(
        title="Millrace",
        version=version("millrace"),
        summary="A self-hosted factory for models: data goes in, a served, monitored endpoint comes out.",
        redoc_url=None,
        docs_url=None,  # its page loads scripts from a CDN
        separate_input_output_schemas=False,
    )
    for module in (runs, wishes, provenance, events, artifacts, endpoints, pipelines, flow, catalog, health):
        api.include_router(module.router)
    problems.install(api)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    return api


def _openapi(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        document = get_openapi(title=api.title, version=api.version, summary=api.summary, routes=api.routes)
        schemas = document["components"]["schemas"]
        for model in UNROUTED:
            schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        api.openapi_schema = document
    return api.openapi_schema
