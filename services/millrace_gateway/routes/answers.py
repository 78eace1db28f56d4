"""What routes have in common for OpenAPI: the documented error answers and raw bodies."""

from __future__ import annotations

from typing import Any

from millrace.contracts.base import Contract
from millrace.contracts.views import Problem
from millrace_gateway.problems import MEDIA_TYPE

_MEANINGS = {
    401: "Credentials are missing or were refused.",
    404: "There is nothing by that name.",
    409: "The state does not allow this.",
    413: "The body is too large.",
    422: "The request is not valid; `field` says where.",
    503: "A broker, store, database or server did not answer; try again.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these, besides 422 and 503, which any may."""
    return {
        status: {
            "model": Problem,
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 422, 503})
    }


def binary(media_type: str = "application/octet-stream", description: str = "The bytes.") -> dict[str, Any]:
    """A successful answer that is bytes."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}


def raw_json(model: type[Contract]) -> dict[str, Any]:
    """`openapi_extra` of a route that passes a JSON body on without decoding it."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}
"""`openapi_extra` of an upload: one raw file, or several as multipart; a part's file name is its path."""
