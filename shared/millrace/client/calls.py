"""Every request of the API as a value: what to send and how to read the answer. Knows no connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from millrace.contracts.artifacts import ArtifactRef, ArtifactType, Manifest
from millrace.contracts.base import Contract, canonical_json
from millrace.contracts.flow import LimitView, QueuesView, SetLimit
from millrace.contracts.ids import new_id
from millrace.contracts.loading import validate
from millrace.contracts.pipelines import Graph
from millrace.contracts.provenance import CacheView, ComparisonView, LineageView
from millrace.contracts.triggers import ApplyPipeline, PipelineView, TriggerView
from millrace.contracts.views import (
    DeadLetterView,
    EndpointView,
    EventView,
    GenerateRequest,
    GenerateResponse,
    KindView,
    ModelView,
    PlanRequest,
    PredictRequest,
    PredictResponse,
    ReadyView,
    RerunRun,
    RunPage,
    RunView,
    SubmitRun,
)

T = TypeVar("T")
C = TypeVar("C", bound=Contract)

Body = bytes | Callable[[], Iterator[bytes]]
"""Bytes, or what makes the stream of them anew for each try."""

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. All are safe to repeat: the server recognizes ids, and stored bytes are named by their digest."""

    method: str
    path: str
    decode: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    timeout_s: float = 60.0


def submit_run(body: SubmitRun) -> Call[RunView]:
    return Call("POST", "/v1/runs", _model(RunView), headers=JSON, body=_json(body))


def plan_run(body: PlanRequest) -> Call[Graph]:
    return Call("POST", "/v1/plan", _model(Graph), headers=JSON, body=_json(body))


def get_run(run_id: str, *, wait_s: float = 0) -> Call[RunView]:
    """`wait_s`: answer when the run is over, at most so much later (up to 60)."""
    query = {"wait_s": f"{wait_s:.3f}"} if wait_s else {}
    return Call("GET", f"/v1/runs/{_part(run_id)}", _model(RunView), query=query, timeout_s=60 + wait_s)


def list_runs(*, status: str, pipeline: str, label: tuple[str, str] | None, limit: int, cursor: str) -> Call[RunPage]:
    asked = {"status": status, "pipeline": pipeline, "cursor": cursor, "label": "=".join(label) if label else ""}
    query = {key: value for key, value in asked.items() if value} | {"limit": str(limit)}
    return Call("GET", "/v1/runs", _model(RunPage), query=query)


def cancel_run(run_id: str, *, reason: str) -> Call[RunView]:
    return _wish(run_id, "cancel", {"reason": reason})


def pause_run(run_id: str, *, reason: str) -> Call[RunView]:
    return _wish(run_id, "pause", {"reason": reason})


def resume_run(run_id: str) -> Call[RunView]:
    return _wish(run_id, "resume")


def retry_run(run_id: str) -> Call[RunView]:
    return _wish(run_id, "retry")


def rerun_run(run_id: str, body: RerunRun) -> Call[RunView]:
    return Call("POST", f"/v1/runs/{_part(run_id)}/rerun", _model(RunView), headers=JSON, body=_json(body))


def list_dead_letters(*, run_id: str, limit: int) -> Call[list[DeadLetterView]]:
    query = {"limit": str(limit)} | ({"run_id": run_id} if run_id else {})
    return Call("GET", "/v1/dead-letters", _list(DeadLetterView), query=query)


def explain_stage(run_id: str, stage: str) -> Call[CacheView]:
    return Call("GET", f"/v1/runs/{_part(run_id)}/stages/{_part(stage)}/cache", _model(CacheView))


def get_lineage(asked: str, *, forward: bool) -> Call[LineageView]:
    query = {"forward": "true"} if forward else {}
    return Call("GET", f"/v1/lineage/{_part(asked)}", _model(LineageView), query=query)


def replay_run(run_id: str, *, replay: str) -> Call[RunView]:
    body = json.dumps({"run_id": replay}).encode()
    return Call("POST", f"/v1/runs/{_part(run_id)}/replay", _model(RunView), headers=JSON, body=body)


def compare_runs(run_id: str, replay: str) -> Call[ComparisonView]:
    return Call("GET", f"/v1/runs/{_part(run_id)}/comparison", _model(ComparisonView), query={"replay": replay})


def list_events(run_id: str, *, after: int) -> Call[list[EventView]]:
    return Call("GET", f"/v1/runs/{_part(run_id)}/events", _list(EventView), query={"after": str(after)})


def stream_events(run_id: str, *, after: int, signals: bool) -> Call[None]:
    return Call(
        "GET",
        f"/v1/runs/{_part(run_id)}/events",
        _nothing,
        query={"signals": "true" if signals else "false"},
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(after)},
    )


def stream_logs(run_id: str, *, stage: str) -> Call[None]:
    return Call("GET", f"/v1/runs/{_part(run_id)}/logs", _nothing, query={"stage": stage} if stage else {})


def upload(
    type: ArtifactType, body: Body, *, content_type: str, filename: str, meta: Mapping[str, Any]
) -> Call[ArtifactRef]:
    """Upload one raw file, or a multipart body of several, as an artifact."""
    query = {"type": type, "filename": filename}
    if meta:
        query["meta"] = canonical_json(dict(meta))
    return Call(
        "POST",
        "/v1/artifacts",
        _model(ArtifactRef),
        query=query,
        headers={"Content-Type": content_type},
        body=body,
        timeout_s=600,
    )


def get_artifact(digest: str) -> Call[Manifest]:
    return Call("GET", f"/v1/artifacts/{_part(digest)}", _model(Manifest))


def download_file(digest: str, path: str) -> Call[None]:
    return Call("GET", f"/v1/artifacts/{_part(digest)}/files/{quote(path)}", _nothing, timeout_s=600)


def read_json(digest: str, path: str) -> Call[Any]:
    """A JSON file of an artifact, as its value."""
    return Call("GET", f"/v1/artifacts/{_part(digest)}/files/{quote(path)}", json.loads)


def list_kinds() -> Call[list[KindView]]:
    return Call("GET", "/v1/kinds", _list(KindView))


def pipeline_schema() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/schema/pipeline.json", TypeAdapter(dict[str, Any]).validate_json)


def list_models() -> Call[list[ModelView]]:
    return Call("GET", "/v1/models", _list(ModelView))


def list_endpoints() -> Call[list[EndpointView]]:
    return Call("GET", "/v1/endpoints", _list(EndpointView))


def get_endpoint(name: str) -> Call[EndpointView]:
    return Call("GET", f"/v1/endpoints/{_part(name)}", _model(EndpointView))


def stop_endpoint(name: str) -> Call[EndpointView]:
    return Call("DELETE", f"/v1/endpoints/{_part(name)}", _model(EndpointView))


def list_queues() -> Call[QueuesView]:
    return Call("GET", "/v1/queues", _model(QueuesView))


def apply_pipeline(name: str, body: ApplyPipeline) -> Call[PipelineView]:
    return Call("PUT", f"/v1/pipelines/{_part(name)}", _model(PipelineView), headers=JSON, body=_json(body))


def list_pipelines() -> Call[list[PipelineView]]:
    return Call("GET", "/v1/pipelines", _list(PipelineView))


def forget_pipeline(name: str) -> Call[PipelineView]:
    return Call("DELETE", f"/v1/pipelines/{_part(name)}", _model(PipelineView))


def hold_trigger(trigger_id: str, *, is_paused: bool) -> Call[TriggerView]:
    verb = "pause" if is_paused else "resume"
    return Call("POST", f"/v1/triggers/{_part(trigger_id)}/{verb}", _model(TriggerView))


def list_limits() -> Call[list[LimitView]]:
    return Call("GET", "/v1/limits", _list(LimitView))


def set_limit(key: str, max: int | None) -> Call[LimitView]:
    """None lets the stages' own maxima hold again. Raises InvalidSpec where the maximum cannot be one."""
    path = f"/v1/limits/{_part(key)}"
    if max is None:
        return Call("DELETE", path, _model(LimitView))
    return Call("PUT", path, _model(LimitView), headers=JSON, body=_json(validate(SetLimit, {"max": max})))


def predict(name: str, rows: Sequence[Mapping[str, Any]]) -> Call[PredictResponse]:
    """Raises ValueError (pydantic's) where rows are not JSON or too many."""
    body = PredictRequest(rows=tuple(dict(row) for row in rows))
    return Call("POST", f"/v1/endpoints/{_part(name)}/predict", _model(PredictResponse), headers=JSON, body=_json(body))


def generate(name: str, body: GenerateRequest) -> Call[GenerateResponse]:
    return Call(
        "POST",
        f"/v1/endpoints/{_part(name)}/generate",
        _model(GenerateResponse),
        headers=JSON,
        body=_json(body),
        timeout_s=180,
    )


def ready() -> Call[ReadyView]:
    return Call("GET", "/readyz", _model(ReadyView))


def _wish(run_id: str, what: str, body: Mapping[str, str] | None = None) -> Call[RunView]:
    """A wish about a run, with a key of its own: a try after one whose answer was lost wishes nothing new."""
    headers = {"Idempotency-Key": new_id("key"), **(JSON if body is not None else {})}
    content = None if body is None else json.dumps(body).encode()
    return Call("POST", f"/v1/runs/{_part(run_id)}/{what}", _model(RunView), headers=headers, body=content)


def _model(model: type[C]) -> Callable[[bytes], C]:
    return model.received_json


def _list(model: type[C]) -> Callable[[bytes], list[C]]:
    adapter = TypeAdapter(list[model])  # type: ignore[valid-type]  # a type made at run time
    return partial(adapter.validate_json, extra="ignore")


def _nothing(_: bytes) -> None:
    return None


def _json(body: Contract) -> bytes:
    return body.model_dump_json(by_alias=True).encode()


def _part(text: str) -> str:
    return quote(text, safe="")
