"""From the body of a request to the submission that the ledger accepts."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import Event, Origin, RunSubmitted, make_event
from millrace.contracts.graph import expand
from millrace.contracts.ids import new_run_id
from millrace.contracts.loading import load_spec
from millrace.contracts.params import resolve_params
from millrace.contracts.pipelines import Graph, PipelineSpec
from millrace.contracts.views import PlanRequest, RerunRun, SubmitRun
from millrace.ledger.ledger import Written
from millrace.ledger.uploads import is_kept
from millrace.runtime.telemetry import new_trace
from millrace.store.artifacts import refresh_artifact
from millrace_gateway.backends import Backends

SOURCE = "client"
TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


def submission(
    body: SubmitRun, backends: Backends, traceparent: str, *, origin: Origin | None = None
) -> Event:  # fmt: skip
    """What the ledger accepts: the run's graph, and the pipeline as written, for a re-run with changes.

    Raises:
        InvalidSpec: With the field's path.
    """
    tenant = backends.settings.tenant
    run_id = body.run_id or new_run_id()
    trace = {"traceparent": traceparent} if TRACEPARENT.match(traceparent) else new_trace()
    data = RunSubmitted(
        run_id=run_id,
        graph=expanded(body, backends),
        params=body.params,
        labels=body.labels,
        priority=body.priority,
        idempotency_key=body.idempotency_key,
        trace=trace,
        spec=body.pipeline,
        cache=body.cache,
        origin=origin,
    )
    return make_event(data, source=SOURCE, subject=run_id, tenant=tenant, traceparent=trace["traceparent"])


def expanded(body: SubmitRun | PlanRequest, backends: Backends) -> Graph:
    """Validate the spec and expand it; data sets that are named by digest must be in this tenant's store."""
    spec = load_spec(body.pipeline)
    graph = expand(spec, body.params, tenant=backends.settings.tenant, seed=body.seed)
    check_stored(backends, spec, resolve_params(spec, body.params))
    return graph


def check_stored(backends: Backends, spec: PipelineSpec, values: Mapping[str, Any]) -> None:
    """Refuse data sets that are named by digest and are not in this tenant's store. Raises InvalidSpec."""
    for name, value in values.items():
        if spec.params[name].type != "dataset" or isinstance(value, str):
            continue
        digest = ArtifactRef.model_validate(value).digest
        if not _is_stored(backends, digest):
            raise errors.InvalidSpec(
                f"No artifact {digest[:12]} is in the store.",
                field=f"params.{name}",
                remedy="Upload the data first: POST /v1/datasets.",
            )


def repeated(written: Written, change: RerunRun) -> SubmitRun:
    """The body that submits a run again, with what is to differ.

    Raises:
        Conflict: The run was submitted by a version that did not keep its pipeline.
    """
    if not written.spec:
        raise errors.Conflict(
            f"Run {written.view.run_id} was submitted by an older Millrace, which did not keep its pipeline.",
            remedy="Submit its pipeline file.",
        )
    view = written.view
    return SubmitRun(
        run_id=change.run_id,
        pipeline=written.spec,
        params={**view.params, **change.params},
        labels={**view.labels, **change.labels},
        priority=view.priority if change.priority is None else change.priority,
        idempotency_key=change.idempotency_key,
        seed=written.seed if change.seed is None else change.seed,
        cache=change.cache or view.cache,
    )


def _is_stored(backends: Backends, digest: str) -> bool:
    """Whether an artifact is in the store, and will be when the run that is to be submitted reads it."""
    settings = backends.settings
    if is_kept(
        backends.ledger.database, settings.tenant, digest,
        now=time.time(), days=settings.gc_uploads_days, grace_s=settings.gc_grace_s,
    ):  # fmt: skip
        return backends.store.exists(digest)
    return refresh_artifact(backends.store, digest)
