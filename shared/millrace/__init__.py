"""A self-hosted factory for models: data goes in, a served, monitored endpoint comes out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace import errors as errors
    from millrace.client import stages as stages
    from millrace.client.async_client import AsyncClient as AsyncClient
    from millrace.client.async_runs import AsyncEndpoint as AsyncEndpoint
    from millrace.client.async_runs import AsyncResult as AsyncResult
    from millrace.client.async_runs import AsyncRun as AsyncRun
    from millrace.client.client import Client as Client
    from millrace.client.pipelines import Pipeline as Pipeline
    from millrace.client.runs import Endpoint as Endpoint
    from millrace.client.runs import Result as Result
    from millrace.client.runs import Run as Run
    from millrace.client.submission import Submission as Submission
    from millrace.contracts.artifacts import ArtifactRef as ArtifactRef
    from millrace.contracts.views import EndpointView as EndpointView
    from millrace.contracts.views import EventView as EventView
    from millrace.contracts.views import RunView as RunView
    from millrace.contracts.views import SignalView as SignalView
    from millrace.errors import MillraceError as MillraceError
    from millrace.errors import RunFailed as RunFailed
    from millrace.runtime.functions import stage as stage
    from millrace.runtime.stage import Context as Context
    from millrace.runtime.values import Dataset as Dataset
    from millrace.runtime.values import Model as Model
    from millrace.runtime.values import Report as Report
    from millrace.runtime.values import Table as Table

    __version__: str

_HOMES = {
    "AsyncClient": "client.async_client",
    "AsyncEndpoint": "client.async_runs",
    "AsyncResult": "client.async_runs",
    "AsyncRun": "client.async_runs",
    "Client": "client.client",
    "Pipeline": "client.pipelines",
    "Endpoint": "client.runs",
    "Result": "client.runs",
    "Run": "client.runs",
    "Submission": "client.submission",
    "ArtifactRef": "contracts.artifacts",
    "EndpointView": "contracts.views",
    "EventView": "contracts.views",
    "RunView": "contracts.views",
    "SignalView": "contracts.views",
    "MillraceError": "errors",
    "RunFailed": "errors",
    "stage": "runtime.functions",
    "Context": "runtime.stage",
    "Dataset": "runtime.values",
    "Model": "runtime.values",
    "Report": "runtime.values",
    "Table": "runtime.values",
}
"""Where each name of the front door lives. It is imported when first used: `import millrace` itself costs nothing."""

_MODULES = {"errors": "errors", "stages": "client.stages"}

__all__ = ["__version__", *_HOMES, *_MODULES]  # all are strings


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("millrace")
    if name in _MODULES:
        value: Any = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
