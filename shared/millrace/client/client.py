"""The blocking client: what scripts and notebooks use."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.client import calls
from millrace.client.batches import (
    ModelName,
    batch_stage,
    model_of_digest,
    model_of_endpoint,
    place_of,
    predictions_of,
)
from millrace.client.downloads import chosen, target_of
from millrace.client.locator import Locator
from millrace.client.pipelines import Pipeline
from millrace.client.runs import Endpoint, Run
from millrace.client.session import Session
from millrace.client.submission import Data, Preparer, Submission, Submittable
from millrace.contracts.artifacts import ArtifactRef, Manifest
from millrace.contracts.events import CacheUse
from millrace.contracts.flow import LimitView, QueuesView
from millrace.contracts.pipelines import Graph, RunStatus
from millrace.contracts.provenance import LineageView
from millrace.contracts.triggers import ApplyPipeline, PipelineView, TriggerView
from millrace.contracts.views import DeadLetterView, EndpointView, KindView, ModelView, PlanRequest, RunPage


class Client:
    """A factory, over HTTP. For several threads.

    Without a URL it takes MILLRACE_URL, else the factory that runs in the home, else starts one there and stops it on
    `close()` or at the script's end; accepted runs then go on at the next start.
    """

    def __init__(self, url: str | None = None, *, home: str | os.PathLike[str] | None = None) -> None:
        """Make a client; it looks for its gateway at the first call.

        Args:
            url: Of a gateway, such as `http://127.0.0.1:8470`.
            home: Directory of an embedded factory; MILLRACE_HOME or `~/.millrace` unless given.
        """
        self._session = Session(Locator(url, home))
        self._preparer = Preparer()
        self._preparing = threading.Lock()

    # --- jobs

    def submit(
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
    ) -> Run:
        """Start a pipeline, one stage, or a `@millrace.stage` function. When this returns, the run will reach an end.

        Args:
            what: What to run.
            data: A file or directory (uploaded once), an `s3://` URL or an artifact, for the data set parameter.
            params: Values of the pipeline's other parameters, or of the function's.
            labels: Words of your own to find the run by.
            priority: -100 to 100; higher goes first.
            idempotency_key: The same key with the same content starts one run, however often it is submitted.
            seed: Of everything random in the run.
            cache: `refresh` computes all anew and keeps the answers; `off` neither reads nor writes the cache.

        Raises:
            InvalidSpec, InvalidData, NotFound: With the path of the field; nothing was started.
            Conflict: The idempotency key was used for something else.
        """
        return self.submit_many([Submission(what, data, params, labels, priority, idempotency_key, seed, cache)])[0]

    def submit_many(self, submissions: Sequence[Submission]) -> list[Run]:
        """Start several runs; all are checked and uploaded before the first is started, and equal data goes up once."""
        with self._preparing:
            bodies = [self._preparer.prepare(submission, self._session.send) for submission in submissions]
        return [Run(self._session, self._session.send(calls.submit_run(body))) for body in bodies]

    def plan(self, what: Submittable, *, data: Data | None = None, params: Mapping[str, Any] | None = None) -> Graph:
        """Return the graph that a submission would run, without starting it. Local data is uploaded."""
        with self._preparing:
            body = self._preparer.prepare(Submission(what, data, params), self._session.send)
        return self._session.send(calls.plan_run(PlanRequest(pipeline=body.pipeline, params=body.params)))

    def batch(
        self, model: ModelName, data: Data, *, out: str | os.PathLike[str], timeout_s: float | None = None
    ) -> Path:
        """Predict every row of data with a model, in parallel shards, and write the predictions.

        Args:
            model: An endpoint's name (its current model), a model artifact or its digest.
            data: Raw rows or a data set.
            out: The Parquet file to write, or an existing directory for `predictions.parquet`.
            timeout_s: How long to wait; None: as long as it takes.

        Returns:
            The path that was written.

        Raises:
            RunFailed, DeadlineExceeded: As `Run.wait`.
        """
        artifact = model_of_digest(model) or model_of_endpoint(self.endpoint(str(model)).view)
        digest = self.submit(batch_stage(artifact), data=data).result(timeout_s=timeout_s).predictions.digest
        entry = predictions_of(self.artifact(digest))
        target = place_of(entry, Path(out))
        self._session.download(digest, entry, target)
        return target

    def run(self, run_id: str) -> Run:
        """Return a run by its id. Raises NotFound."""
        return Run(self._session, self._session.send(calls.get_run(run_id)))

    def runs(
        self,
        *,
        status: RunStatus | None = None,
        pipeline: str = "",
        label: tuple[str, str] | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> RunPage:
        """List runs, newest first; `cursor` is the page before's `next_cursor`."""
        return self._session.send(
            calls.list_runs(status=status or "", pipeline=pipeline, label=label, limit=limit, cursor=cursor)
        )

    def dead_letters(self, *, run: str = "", limit: int = 50) -> list[DeadLetterView]:
        """Tasks that were set aside after their last attempt, of one run or of all; newest first."""
        return self._session.send(calls.list_dead_letters(run_id=run, limit=limit))

    # --- what they made

    def models(self) -> list[ModelView]:
        """Released models, newest first."""
        return self._session.send(calls.list_models())

    def endpoints(self) -> list[EndpointView]:
        """All endpoints."""
        return self._session.send(calls.list_endpoints())

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint by its name. Raises NotFound."""
        return Endpoint(self._session, self._session.send(calls.get_endpoint(name)))

    def artifact(self, digest: str) -> Manifest:
        """Return an artifact's manifest. Raises NotFound."""
        return self._session.send(calls.get_artifact(digest))

    def lineage(self, asked: str, *, forward: bool = False) -> LineageView:
        """Return what something came from, as a tree; forward, what came of it.

        Args:
            asked: A digest or its start, a run's id, or an endpoint's name.

        Raises:
            NotFound: Nothing is known by that name.
        """
        return self._session.send(calls.get_lineage(asked, forward=forward))

    def download(self, artifact: ArtifactRef, directory: str | os.PathLike[str], *, only: Sequence[str] = ()) -> Path:
        """Write files of an artifact into a directory, each verified against its digest; return the directory.

        Args:
            only: Globs of paths in the artifact, such as `data/test-*`; all files without.
        """
        root = Path(directory)
        for entry in chosen(self.artifact(artifact.digest).files, only):
            self._session.download(artifact.digest, entry, target_of(root, entry.path))
        return root

    def kinds(self) -> list[KindView]:
        """Stage kinds that are installed at the gateway."""
        return self._session.send(calls.list_kinds())

    # --- pipelines that start by themselves

    def apply(
        self, pipeline: Pipeline, *, data: Data | None = None, params: Mapping[str, Any] | None = None
    ) -> PipelineView:
        """Keep a pipeline under its name, in place of what was there; its triggers start runs from now on.

        Args:
            pipeline: With `triggers`, or without: then it is only kept.
            data: For the data set parameter of all its runs; local data is uploaded now.
            params: Values of the other parameters, for all its runs.

        Raises:
            InvalidSpec: With the path of the field; what was there stays.
        """
        with self._preparing:
            body = self._preparer.prepare(Submission(pipeline, data, params), self._session.send)
        applied = ApplyPipeline(pipeline=body.pipeline, params=body.params)
        return self._session.send(calls.apply_pipeline(str(body.pipeline["name"]), applied))

    def pipelines(self) -> list[PipelineView]:
        """Kept pipelines with their triggers."""
        return self._session.send(calls.list_pipelines())

    def forget_pipeline(self, name: str) -> None:
        """Forget a kept pipeline and its triggers; its runs stay. Raises NotFound."""
        self._session.send(calls.forget_pipeline(name))

    def pause_trigger(self, trigger_id: str) -> TriggerView:
        """Hold a trigger: it starts nothing until it is resumed. Raises NotFound."""
        return self._session.send(calls.hold_trigger(trigger_id, is_paused=True))

    def resume_trigger(self, trigger_id: str) -> TriggerView:
        """Let a trigger go on, from now. Raises NotFound."""
        return self._session.send(calls.hold_trigger(trigger_id, is_paused=False))

    # --- flow

    def queues(self) -> QueuesView:
        """What waits and what is at work in each resource class, and the limits at which tasks wait."""
        return self._session.send(calls.list_queues())

    def limits(self) -> list[LimitView]:
        """Limits that were set, that a task holds, or that one waits for."""
        return self._session.send(calls.list_limits())

    def set_limit(self, key: str, max: int | None) -> LimitView:
        """Let at most `max` tasks at once hold a key, whatever their stages say; None: as the stages say."""
        return self._session.send(calls.set_limit(key, max))

    # --- the connection

    @property
    def url(self) -> str:
        """The gateway's URL; looks for it, and may start a factory."""
        return self._session.url

    @property
    def started_factory(self) -> bool:
        """Whether this client started the factory it talks to, which then ends with it."""
        return self._session.started_factory

    def close(self) -> None:
        """Close connections, and stop the factory that this client started, if it did."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
