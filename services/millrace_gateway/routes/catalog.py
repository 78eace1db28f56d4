"""What pipelines can be made of: stage kinds and the pipeline file's JSON Schema."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from millrace.contracts.editors import pipeline_schema
from millrace.contracts.stages import StageKind, installed_kinds
from millrace.contracts.views import KindView
from millrace_gateway.routes.answers import problems

router = APIRouter(prefix="/v1", tags=["catalog"], responses=problems())


@router.get("/kinds", operation_id="listKinds")
def kinds() -> list[KindView]:
    """Stage kinds of the packages that are installed here, with their ports and the schema of `with`."""
    return [_view(kind) for kind in installed_kinds().values()]


@router.get("/schema/pipeline.json", operation_id="getPipelineSchema")
def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a pipeline file, for editors."""
    return pipeline_schema(installed_kinds())


def _view(kind: StageKind) -> KindView:
    return KindView(
        name=kind.name,
        caption=kind.caption,
        service=kind.service,
        inputs=dict(kind.inputs),
        outputs=dict(kind.outputs),
        effect=kind.effect,
        bytes=kind.bytes,
        config=kind.config.model_json_schema(by_alias=True),
    )
