"""What the routes stand on: ledger, store, bus, and the threads that their blocking calls run in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.views import CheckView, ReadyView
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_gateway.live import Live
from millrace_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    import httpx  # 60 ms and 5 MB that only a gateway which proxies predictions pays

P = ParamSpec("P")
T = TypeVar("T")

CHECK_LIMIT_S = 5.0
INBOX_CHANGED = "inbox.changed"


@dataclass(slots=True)
class Backends:
    """One per process. `threads` bounds short calls; `uploads` bounds long ones, so that neither starves the other."""

    settings: GatewaySettings
    ledger: Ledger
    store: Store
    bus: Bus
    live: Live
    threads: anyio.CapacityLimiter
    uploads: anyio.CapacityLimiter
    servers: httpx.AsyncClient | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a short blocking call in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.threads)

    async def call_long(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that lasts as long as a transfer."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.uploads)

    def nudge(self) -> None:
        """Tell the conductors that the inbox has something; without it they look once a second. Waits for nobody."""
        asyncio.get_running_loop().run_in_executor(None, self.bus.signal, INBOX_CHANGED, {})

    def proxy(self) -> httpx.AsyncClient:
        """The client that talks to model servers; made when first needed."""
        if self.servers is None:
            import httpx

            limits = httpx.Limits(max_connections=256, max_keepalive_connections=32)
            timeout = httpx.Timeout(self.settings.gateway_proxy_timeout_s, connect=2.0)
            self.servers = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        return self.servers

    async def ready(self) -> ReadyView:
        """Ask broker, store and ledger at once."""
        needs = {"broker": self.bus.check, "store": self.store.check, "ledger": self.ledger.check}
        checks: dict[str, CheckView] = {}

        async def ask(name: str, check: Callable[[], None]) -> None:
            checks[name] = await _check(name, check)

        async with anyio.create_task_group() as group:
            for name, check in needs.items():
                group.start_soon(ask, name, check)
        return ReadyView(ready=all(c.ok for c in checks.values()), checks=tuple(checks[name] for name in needs))


@asynccontextmanager
async def open_backends(settings: GatewaySettings) -> AsyncIterator[Backends]:
    """Open what the settings name; close it in the opposite order."""
    ledger = await anyio.to_thread.run_sync(open_ledger, settings.database)
    store = await anyio.to_thread.run_sync(partial(open_store, settings, tenant=settings.tenant))
    bus = await anyio.to_thread.run_sync(connect, settings.broker)
    live = Live(backlog=settings.gateway_stream_backlog)
    backends = Backends(
        settings=settings,
        ledger=ledger,
        store=store,
        bus=bus,
        live=live,
        threads=anyio.CapacityLimiter(settings.gateway_threads),
        uploads=anyio.CapacityLimiter(settings.gateway_threads),
    )
    live.start(bus)
    try:
        yield backends
    finally:
        if backends.servers is not None:
            await backends.servers.aclose()
        await anyio.to_thread.run_sync(live.stop)
        bus.close()
        ledger.close()


def of_request(request: Request) -> Backends:
    backends = request.app.state.backends
    assert isinstance(backends, Backends)
    return backends


Using = Annotated[Backends, Depends(of_request)]
"""A route's parameter: the process's backends."""


async def _check(name: str, check: Callable[[], None]) -> CheckView:
    begin = time.monotonic()
    problem: errors.MillraceError | None = None
    try:
        with anyio.fail_after(CHECK_LIMIT_S):
            # Not in the pool of the routes: a backend that hangs must not take the threads that answer for the others.
            await anyio.to_thread.run_sync(check, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
    except TimeoutError:
        problem = errors.DeadlineExceeded(f"The {name} did not answer within {CHECK_LIMIT_S:.0f} s.")
    except errors.MillraceError as error:
        problem = error
    seconds = round(time.monotonic() - begin, 6)
    if problem is None:
        return CheckView(name=name, ok=True, seconds=seconds)
    return CheckView(name=name, ok=False, seconds=seconds, detail=problem.message, remedy=problem.remedy)
