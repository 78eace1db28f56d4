"""What each endpoint of this server serves now. Reading is one dictionary look-up; a swap is one assignment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from millrace import errors
from millrace.contracts.events import EndpointDesired, ErrorInfo
from millrace.contracts.views import GenerateRequest
from millrace.models.signature import ModelCard

Status = Literal["starting", "ready", "failed", "stopped"]

Rows = Sequence[Mapping[str, Any]]
"""Of one request, or of its answer: column name to JSON value."""


class Served(Protocol):
    """A loaded model. The one that is real is in served.py, whose import a server without endpoints does without."""

    @property
    def desired(self) -> EndpointDesired: ...

    @property
    def digest(self) -> str: ...

    @property
    def card(self) -> ModelCard: ...

    def predict(self, rows: Rows) -> Awaitable[Rows]: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[str, None]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An endpoint on this server.

    Attributes:
        desired: The newest that was heard of.
        status: How far this server is with it.
        served: What answers meanwhile; an older generation, while or if the newest does not load.
    """

    desired: EndpointDesired
    status: Status
    updated_at: datetime
    served: Served | None = None
    error: ErrorInfo | None = None


class Registry:
    """Endpoints by name. Written by the reconciler's thread, read by the event loop."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._states: dict[str, EndpointState] = {}
        self._clock = clock

    @property
    def states(self) -> Mapping[str, EndpointState]:
        return dict(self._states)

    def generation(self, name: str) -> int:
        """The newest generation that was heard of; 0 if none was."""
        state = self._states.get(name)
        return state.desired.generation if state else 0

    def expect(self, desired: EndpointDesired) -> None:
        """A newer generation will be loaded; what serves now goes on."""
        before = self._states.get(desired.name)
        served = before.served if before else None
        self._states[desired.name] = EndpointState(desired, "starting", self._clock(), served)

    def install(self, desired: EndpointDesired, served: Served | None) -> Served | None:
        """Point the endpoint at a loaded model (None: it is stopped); return the one that it replaces."""
        before = self._states.get(desired.name)
        status: Status = "ready" if served else "stopped"
        self._states[desired.name] = EndpointState(desired, status, self._clock(), served)
        return before.served if before else None

    def fail(self, desired: EndpointDesired, error: ErrorInfo) -> None:
        """The newest generation does not load; what served before goes on."""
        state = self._states[desired.name]
        self._states[desired.name] = replace(state, status="failed", error=error, updated_at=self._clock())

    def state(self, name: str) -> EndpointState:
        """What is known of an endpoint. Raises NotFound if nothing is."""
        state = self._states.get(name)
        if state is None:
            raise errors.NotFound(
                f"No endpoint {name!r} is served here; {errors.nearest(name, self._states)}",
                field="name", remedy="Deploy one with `millrace run`.",
            )  # fmt: skip
        return state

    def find(self, name: str) -> Served:
        """The model that answers for an endpoint.

        Raises:
            NotFound: There is no such endpoint, or it is stopped.
            Unavailable: Its first model is still being loaded, or could not be.
        """
        state = self.state(name)
        if state.served is not None:
            return state.served
        if state.status == "stopped":
            raise errors.NotFound(f"Endpoint {name!r} is stopped.", field="name", remedy="Deploy a release to it.")
        if state.error is not None:
            raise errors.Unavailable(
                f"Endpoint {name!r} could not load its model: {state.error.message}", remedy=state.error.remedy
            )
        raise errors.Unavailable(f"Endpoint {name!r} is loading its model.", remedy="Retry in a few seconds.")
