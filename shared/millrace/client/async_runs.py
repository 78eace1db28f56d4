"""As `runs`, with await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from millrace import errors
from millrace.client import calls
from millrace.client.async_session import AsyncSession
from millrace.client.requests import generate_request, predict_call, rerun_request
from millrace.client.results import Outcome, check_succeeded, reading
from millrace.client.runs import WAIT_S, still_running
from millrace.client.sse import Follower
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import CacheUse
from millrace.contracts.ids import new_run_id
from millrace.contracts.pipelines import RunStatus
from millrace.contracts.provenance import CacheView, ComparisonView
from millrace.contracts.views import (
    TERMINAL_STATUSES,
    EndpointView,
    EventView,
    RunView,
    SignalView,
)


class AsyncRun:
    """As `Run`, with await."""

    def __init__(self, session: AsyncSession, view: RunView) -> None:
        self._session = session
        self._view = view

    @property
    def id(self) -> str:
        return self._view.run_id

    @property
    def view(self) -> RunView:
        """The run as it was when last asked for; `refresh()` asks."""
        return self._view

    async def status(self) -> RunStatus:
        """As it is now; asks unless the run is known to be over."""
        return self._view.status if self._view.status in TERMINAL_STATUSES else (await self.refresh()).status

    async def refresh(self) -> RunView:
        """Ask for the run as it is now."""
        self._view = await self._session.send(calls.get_run(self.id))
        return self._view

    @overload
    def follow(self, *, signals: Literal[False] = False, after: int = 0) -> AsyncIterator[EventView]: ...

    @overload
    def follow(self, *, signals: bool, after: int = 0) -> AsyncIterator[EventView | SignalView]: ...

    async def follow(self, *, signals: bool = False, after: int = 0) -> AsyncIterator[EventView | SignalView]:
        """As `Run.follow`: `async for event in run.follow()`."""
        follower = Follower(self.id, signals=signals, after=after)
        while not follower.is_over:
            lost: errors.Unavailable | None = None
            url = await self._session.url()
            try:
                async with self._session.stream(follower.call()) as response:
                    follower.opened(response.status_code)
                    async for line in response.aiter_lines():
                        item = follower.read(line)
                        if item is not None:
                            yield item
                    follower.closed()
            except errors.Unavailable as error:
                lost = error
            if not follower.is_over:
                await asyncio.sleep(follower.lost(lost))
                if lost is not None:
                    await self._session.moved(url)

    async def wait(self, *, timeout_s: float | None = None) -> RunView:
        """As `Run.wait`."""
        return check_succeeded(await self.wait_end(timeout_s=timeout_s))

    async def wait_end(self, *, timeout_s: float | None = None) -> RunView:
        """As `Run.wait_end`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._view.status not in TERMINAL_STATUSES:
            left_s = WAIT_S if deadline is None else deadline - time.monotonic()
            call = calls.get_run(self.id, wait_s=max(0.0, min(left_s, WAIT_S)))
            self._view = await self._session.send(call)
            if self._view.status not in TERMINAL_STATUSES and left_s <= 0:
                raise still_running(self._view, timeout_s)
        return self._view

    async def result(self, *, timeout_s: float | None = None) -> AsyncResult:
        """As `Run.result`."""
        return AsyncResult(await self.wait(timeout_s=timeout_s), self._session)

    async def cancel(self, *, reason: str = "") -> RunView:
        """As `Run.cancel`."""
        self._view = await self._session.send(calls.cancel_run(self.id, reason=reason))
        return self._view

    async def pause(self, *, reason: str = "") -> RunView:
        """As `Run.pause`."""
        self._view = await self._session.send(calls.pause_run(self.id, reason=reason))
        return self._view

    async def resume(self) -> RunView:
        """As `Run.resume`."""
        self._view = await self._session.send(calls.resume_run(self.id))
        return self._view

    async def retry(self) -> RunView:
        """As `Run.retry`."""
        self._view = await self._session.send(calls.retry_run(self.id))
        return self._view

    async def rerun(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        seed: int | None = None,
        cache: CacheUse | None = None,
        idempotency_key: str = "",
    ) -> AsyncRun:
        """As `Run.rerun`."""
        body = rerun_request(params, labels, priority, seed, cache, idempotency_key)
        return AsyncRun(self._session, await self._session.send(calls.rerun_run(self.id, body)))

    async def explain(self, stage: str) -> CacheView:
        """As `Run.explain`."""
        return await self._session.send(calls.explain_stage(self.id, stage))

    async def replay(self) -> AsyncRun:
        """As `Run.replay`."""
        return AsyncRun(self._session, await self._session.send(calls.replay_run(self.id, replay=new_run_id())))

    async def compare(self, other: str) -> ComparisonView:
        """As `Run.compare`."""
        return await self._session.send(calls.compare_runs(self.id, other))

    async def events(self, *, after: int = 0) -> list[EventView]:
        """As `Run.events`."""
        return await self._session.send(calls.list_events(self.id, after=after))

    async def logs(self, stage: str = "") -> AsyncIterator[str]:
        """As `Run.logs`: `async for line in run.logs()`."""
        async with self._session.stream(calls.stream_logs(self.id, stage=stage)) as response:
            async for line in response.aiter_lines():
                yield line

    def __repr__(self) -> str:
        return f"AsyncRun({self.id!r}, {self._view.pipeline!r}, {self._view.status!r})"


@dataclass(frozen=True, slots=True)
class AsyncResult(Outcome):
    """As `Result`; the endpoint is asked for with `await result.endpoint()`."""

    session: AsyncSession

    async def value(self, stage: str = "") -> Any:
        """As `Result.value`."""
        found = self.returned(stage)
        if isinstance(found, tuple):
            return await asyncio.gather(*(self._read(ref) for ref in found))
        return found and await self._read(found)

    async def _read(self, ref: ArtifactRef) -> Any:
        call = reading(ref)
        return ref if call is None else await self.session.send(call)

    async def endpoint(self) -> AsyncEndpoint:
        """The endpoint that the run deployed to. Raises NotFound if it deployed nothing."""
        view = await self.session.send(calls.get_endpoint(self.endpoint_name()))
        return AsyncEndpoint(self.session, view)


class AsyncEndpoint:
    """As `Endpoint`, with await."""

    def __init__(self, session: AsyncSession, view: EndpointView) -> None:
        self._session = session
        self.view = view

    @property
    def name(self) -> str:
        return self.view.name

    async def refresh(self) -> EndpointView:
        """Ask for the endpoint as it is now."""
        self.view = await self._session.send(calls.get_endpoint(self.name))
        return self.view

    async def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """As `Endpoint.predict`."""
        response = await self._session.send(predict_call(self.name, rows))
        return [dict(answer) for answer in response.predictions]

    async def generate(
        self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.8, top_k: int = 0, seed: int = 0
    ) -> str:
        """As `Endpoint.generate`."""
        request = generate_request(prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed)
        return (await self._session.send(calls.generate(self.name, request))).text

    async def stop(self) -> EndpointView:
        """Stop serving; the releases stay."""
        self.view = await self._session.send(calls.stop_endpoint(self.name))
        return self.view

    def __repr__(self) -> str:
        return f"AsyncEndpoint({self.name!r}, release={self.view.release}, {self.view.status!r})"
