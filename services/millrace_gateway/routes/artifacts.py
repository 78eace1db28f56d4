"""Artifacts: upload files as one, look at the manifest, download a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest
from millrace.store.artifacts import check_path, media_type, read_manifest, write_manifest
from millrace_gateway.backends import Backends, Using
from millrace_gateway.bodies import MultipartFiles, NextChunk, chunks_of, open_body
from millrace_gateway.downloads import blob_chunks
from millrace_gateway.routes.answers import UPLOAD, binary, problems

router = APIRouter(prefix="/v1", tags=["artifacts"], responses=problems())

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Digest of an artifact's manifest.")]
Filename = Annotated[str, Query(max_length=1024, description="Path of the one file of a raw body.")]


@router.post("/datasets", status_code=201, operation_id="uploadDataset", openapi_extra=UPLOAD, responses=problems(413))
async def upload_dataset(request: Request, backends: Using, filename: Filename = "data") -> ArtifactRef:
    """Upload data as a `source` artifact, which a pipeline's data set parameter takes."""
    return await _upload(request, backends, "source", filename, {})


@router.post(
    "/artifacts", status_code=201, operation_id="uploadArtifact", openapi_extra=UPLOAD, responses=problems(413)
)
async def upload_artifact(
    request: Request,
    backends: Using,
    type: ArtifactType,
    filename: Filename = "data",
    meta: Annotated[str, Query(max_length=8192, description="Of the manifest: a JSON object.")] = "{}",
) -> ArtifactRef:
    """Upload files as an artifact of any type, such as `code`."""
    return await _upload(request, backends, type, filename, _object(meta))


@router.get("/artifacts/{digest}", operation_id="getArtifact", responses=problems(404))
async def get_artifact(digest: Digest, backends: Using) -> Manifest:
    """An artifact's manifest: its files with their digests, and small facts about the whole."""
    return await backends.call(read_manifest, backends.store, digest)


@router.get(
    "/artifacts/{digest}/files/{path:path}",
    operation_id="getArtifactFile",
    response_class=Response,
    responses={200: binary(), **problems(404)},
)
async def get_file(digest: Digest, path: str, backends: Using, request: Request) -> Response:
    """One file of an artifact."""
    manifest = await backends.call(read_manifest, backends.store, digest)
    entry = next((f for f in manifest.files if f.path == path), None)
    if entry is None:
        raise errors.NotFound(
            f"Artifact {digest[:12]} has no file {path!r}; "
            + errors.nearest(path, (f.path for f in manifest.files[:100]))
        )
    etag = f'"{entry.digest}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if not await backends.call(backends.store.exists, entry.digest):
        raise errors.NotFound(f"The bytes of {path!r} are no longer in the store.", remedy="Run its producer again.")
    # Stored bytes may be anybody's: a browser must neither run nor render them under this origin.
    headers |= {
        "Content-Length": str(entry.size_bytes),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(blob_chunks(backends, entry.digest), media_type=entry.media_type, headers=headers)


async def _upload(
    request: Request, backends: Backends, type_: ArtifactType, filename: str, meta: Mapping[str, Any]
) -> ArtifactRef:
    content_type = request.headers.get("content-type", "")
    next_chunk = chunks_of(request)
    if content_type.startswith("multipart/"):
        files: Iterator[tuple[str, BinaryIO]] = iter(MultipartFiles(content_type, next_chunk))
    else:
        files = _single(filename, next_chunk)
    return await backends.call_long(_store_files, backends, type_, files, meta)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise errors.InvalidInput(f"Expected a JSON object; found {text[:80]!r}.", field="meta")
    return value


def _single(filename: str, next_chunk: NextChunk) -> Iterator[tuple[str, BinaryIO]]:
    yield filename, open_body(next_chunk)


def _store_files(
    backends: Backends, type_: ArtifactType, files: Iterator[tuple[str, BinaryIO]], meta: Mapping[str, Any]
) -> ArtifactRef:
    """Stream each file into the store, then write the manifest."""
    entries: dict[str, FileEntry] = {}
    for path, stream in files:
        check_path(path)
        if path in entries:
            raise errors.InvalidData(f"Two files are named {path!r}.", remedy="Give each its own path.")
        digest, size = backends.store.put_stream(stream)
        entries[path] = FileEntry(path=path, digest=digest, size_bytes=size, media_type=media_type(path))
    if not any(entry.size_bytes for entry in entries.values()):
        raise errors.InvalidData("The upload holds no bytes.", remedy="Send a file that is not empty.")
    stored = write_manifest(backends.store, type_, entries, meta=meta)
    backends.ledger.note_upload(stored)
    return stored
