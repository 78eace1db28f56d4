"""Trace context: made at submit, carried by commands and events, opened again in the child. Exported only if asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from millrace import errors
from millrace.settings import Settings

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

_provider: Any = None
"""This process's SDK tracer provider, once `configure_telemetry` found an endpoint; the SDK itself keeps such a global."""


def new_trace() -> dict[str, str]:
    """W3C headers of a new trace, for a run that is submitted outside any span."""
    return {"traceparent": f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"}


def configure_telemetry(settings: Settings, service: str) -> None:
    """Export spans to `MILLRACE_OTEL_ENDPOINT` (OTLP over HTTP), if it is set.

    Raises:
        InvalidInput: It is set, and the exporter is not installed.
    """
    global _provider
    if not settings.otel_endpoint or _provider is not None:
        return
    try:
        exporter = importlib.import_module(_EXPORTER)
    except ImportError as error:
        raise errors.InvalidInput(
            "Traces are to be exported, and the OTLP exporter is not installed.",
            field="MILLRACE_OTEL_ENDPOINT",
            remedy="Run pip install opentelemetry-exporter-otlp-proto-http, or unset the variable.",
        ) from error
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    endpoint = settings.otel_endpoint.rstrip("/") + "/v1/traces"
    _provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=endpoint)))


@contextmanager
def span(name: str, trace: Mapping[str, str], **attributes: str) -> Iterator[None]:
    """Run a block within a span whose parent the headers name; without headers or an exporter it costs nothing."""
    if not trace:
        yield
        return
    from opentelemetry import context
    from opentelemetry import trace as api
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract(dict(trace))
    if _provider is None:
        token = context.attach(parent)  # so that the stage's own instrumentation joins the trace
        try:
            yield
        finally:
            context.detach(token)
        return
    tracer = api.get_tracer("millrace", tracer_provider=_provider)
    named = {f"millrace.{key}": value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, context=parent, attributes=named):
        yield


def current_trace() -> dict[str, str]:
    """W3C headers of the span this code runs in; empty outside any."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def flush() -> None:
    """Send what is buffered: a child ends without exit handlers."""
    if _provider is not None:
        _provider.force_flush(5_000)
