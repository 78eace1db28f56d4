"""The client for event loops: the same as `Client`, with `await`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.client import calls
from millrace.client.async_runs import AsyncEndpoint, AsyncRun
from millrace.client.async_session import AsyncSession
from millrace.client.batches import (
    ModelName,
    batch_stage,
    model_of_digest,
    model_of_endpoint,
    place_of,
    predictions_of,
)
from millrace.client.calls import Call
from millrace.client.downloads import chosen, target_of
from millrace.client.locator import Locator
from millrace.client.pipelines import Pipeline
from millrace.client.submission import Data, Preparer, Submission, Submittable
from millrace.contracts.artifacts import ArtifactRef, Manifest
from millrace.contracts.events import CacheUse
from millrace.contracts.flow import LimitView, QueuesView
from millrace.contracts.pipelines import Graph, RunStatus
from millrace.contracts.provenance import LineageView
from millrace.contracts.triggers import ApplyPipeline, PipelineView, TriggerView
from millrace.contracts.views import DeadLetterView, EndpointView, KindView, ModelView, PlanRequest, RunPage, SubmitRun


class AsyncClient:
    """A factory, over HTTP, for the tasks of one event loop. Finds or starts its gateway as `Client` does."""

    def __init__(self, url: str | None = None, *, home: str | os.PathLike[str] | None = None) -> None:
        """Make a client; it looks for its gateway at the first call. Arguments as of `Client`."""
        self._session = AsyncSession(Locator(url, home))
        self._preparer = Preparer()
        self._preparing = asyncio.Lock()

    # --- jobs

    async def submit(
        self,
        what: Submittable,
        *,
        data: Data | None = None,
        params: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        idempotency_key: str = "",
        seed: int = 0,
        cache: CacheUse = "use",
    ) -> AsyncRun:
        """As `Client.submit`."""
        return (
            await self.submit_many([Submission(what, data, params, labels, priority, idempotency_key, seed, cache)])
        )[0]

    async def submit_many(self, submissions: Sequence[Submission]) -> list[AsyncRun]:
        """As `Client.submit_many`."""
        bodies = [await self._prepared(submission) for submission in submissions]
        return [AsyncRun(self._session, await self._session.send(calls.submit_run(body))) for body in bodies]

    async def plan(
        self, what: Submittable, *, data: Data | None = None, params: Mapping[str, Any] | None = None
    ) -> Graph:
        """As `Client.plan`."""
        body = await self._prepared(Submission(what, data, params))
        return await self._session.send(calls.plan_run(PlanRequest(pipeline=body.pipeline, params=body.params)))

    async def batch(
        self, model: ModelName, data: Data, *, out: str | os.PathLike[str], timeout_s: float | None = None
    ) -> Path:
        """As `Client.batch`."""
        artifact = model_of_digest(model) or model_of_endpoint((await self.endpoint(str(model))).view)
        run = await self.submit(batch_stage(artifact), data=data)
        digest = (await run.result(timeout_s=timeout_s)).predictions.digest
        entry = predictions_of(await self.artifact(digest))
        target = place_of(entry, Path(out))
        await self._session.download(digest, entry, target)
        return target

    async def run(self, run_id: str) -> AsyncRun:
        """Return a run by its id. Raises NotFound."""
        return AsyncRun(self._session, await self._session.send(calls.get_run(run_id)))

    async def runs(
        self,
        *,
        status: RunStatus | None = None,
        pipeline: str = "",
        label: tuple[str, str] | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> RunPage:
        """As `Client.runs`."""
        return await self._session.send(
            calls.list_runs(status=status or "", pipeline=pipeline, label=label, limit=limit, cursor=cursor)
        )

    async def dead_letters(self, *, run: str = "", limit: int = 50) -> list[DeadLetterView]:
        """As `Client.dead_letters`."""
        return await self._session.send(calls.list_dead_letters(run_id=run, limit=limit))

    # --- what they made

    async def models(self) -> list[ModelView]:
        """Released models, newest first."""
        return await self._session.send(calls.list_models())

    async def endpoints(self) -> list[EndpointView]:
        """All endpoints."""
        return await self._session.send(calls.list_endpoints())

    async def endpoint(self, name: str) -> AsyncEndpoint:
        """Return an endpoint by its name. Raises NotFound."""
        return AsyncEndpoint(self._session, await self._session.send(calls.get_endpoint(name)))

    async def artifact(self, digest: str) -> Manifest:
        """Return an artifact's manifest. Raises NotFound."""
        return await self._session.send(calls.get_artifact(digest))

    async def lineage(self, asked: str, *, forward: bool = False) -> LineageView:
        """As `Client.lineage`."""
        return await self._session.send(calls.get_lineage(asked, forward=forward))

    async def download(
        self, artifact: ArtifactRef, directory: str | os.PathLike[str], *, only: Sequence[str] = ()
    ) -> Path:
        """As `Client.download`."""
        root = Path(directory)
        for entry in chosen((await self.artifact(artifact.digest)).files, only):
            await self._session.download(artifact.digest, entry, target_of(root, entry.path))
        return root

    async def kinds(self) -> list[KindView]:
        """Stage kinds that are installed at the gateway."""
        return await self._session.send(calls.list_kinds())

    # --- flow

    async def queues(self) -> QueuesView:
        """As `Client.queues`."""
        return await self._session.send(calls.list_queues())

    async def apply(
        self, pipeline: Pipeline, *, data: Data | None = None, params: Mapping[str, Any] | None = None
    ) -> PipelineView:
        """As `Client.apply`."""
        body = await self._prepared(Submission(pipeline, data, params))
        applied = ApplyPipeline(pipeline=body.pipeline, params=body.params)
        return await self._session.send(calls.apply_pipeline(str(body.pipeline["name"]), applied))

    async def pipelines(self) -> list[PipelineView]:
        """As `Client.pipelines`."""
        return await self._session.send(calls.list_pipelines())

    async def forget_pipeline(self, name: str) -> None:
        """As `Client.forget_pipeline`."""
        await self._session.send(calls.forget_pipeline(name))

    async def pause_trigger(self, trigger_id: str) -> TriggerView:
        """As `Client.pause_trigger`."""
        return await self._session.send(calls.hold_trigger(trigger_id, is_paused=True))

    async def resume_trigger(self, trigger_id: str) -> TriggerView:
        """As `Client.resume_trigger`."""
        return await self._session.send(calls.hold_trigger(trigger_id, is_paused=False))

    async def limits(self) -> list[LimitView]:
        """As `Client.limits`."""
        return await self._session.send(calls.list_limits())

    async def set_limit(self, key: str, max: int | None) -> LimitView:
        """As `Client.set_limit`."""
        return await self._session.send(calls.set_limit(key, max))

    # --- the connection

    async def url(self) -> str:
        """The gateway's URL; looks for it, and may start a factory."""
        return await self._session.url()

    @property
    def started_factory(self) -> bool:
        """As `Client.started_factory`."""
        return self._session.started_factory

    async def close(self) -> None:
        """As `Client.close`."""
        await self._session.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _prepared(self, submission: Submission) -> SubmitRun:
        """Reading files and checking blocks, so it runs in a thread, whose uploads come back to this loop."""
        loop = asyncio.get_running_loop()

        def send(call: Call[ArtifactRef]) -> ArtifactRef:
            return asyncio.run_coroutine_threadsafe(self._session.send(call), loop).result()

        async with self._preparing:
            return await asyncio.to_thread(self._preparer.prepare, submission, send)
