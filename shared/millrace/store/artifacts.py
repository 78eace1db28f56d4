"""Manifests: writing a set of files as one artifact, and reading it back."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest
from millrace.store import Store

MAX_MANIFEST_BYTES = 64 * 2**20

_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/vnd.safetensors",
    ".onnx": "application/onnx",
}


def write_manifest(
    store: Store, type: ArtifactType, files: Mapping[str, Path | bytes | FileEntry], *, meta: Mapping[str, Any]
) -> ArtifactRef:
    """Store files, then the manifest that names them: whoever sees the manifest finds every blob.

    Args:
        store: Where to.
        type: The artifact's type.
        files: Manifest path to a local file, to bytes, or to an entry whose blob is already stored.
        meta: Small facts about the whole, JSON-compatible.
    """
    entries = []
    for path, content in sorted(files.items()):
        check_path(path)
        if isinstance(content, FileEntry):
            entries.append(content.model_copy(update={"path": path}))
            continue
        if isinstance(content, bytes):
            digest, size = store.put_bytes(content), len(content)
        else:
            digest, size = store.put_file(content)
        entries.append(FileEntry(path=path, digest=digest, size_bytes=size, media_type=media_type(path)))
    manifest = Manifest(type=type, files=tuple(entries), meta=json.loads(json.dumps(dict(meta))))
    digest = store.put_bytes(manifest.to_json().encode())
    return ArtifactRef(digest=digest, type=type, size_bytes=sum(e.size_bytes for e in entries), tenant=store.tenant)


def read_manifest(store: Store, digest: str) -> Manifest:
    """Return the manifest a digest names.

    Raises:
        NotFound, Corrupt, Unavailable: From the store.
        InvalidData: The blob is not a manifest.
    """
    data = store.get_bytes(digest, max_bytes=MAX_MANIFEST_BYTES)
    try:
        return Manifest.received_json(data)
    except ValueError as error:
        raise errors.InvalidData(
            f"Blob {digest[:12]} is not a manifest.", remedy="Give the digest of an artifact, not of one of its files."
        ) from error


def refresh_artifact(store: Store, digest: str) -> bool:
    """Touch what is old of an artifact that is about to be named again; False if any of it is not in the store.

    Without this a collection that is under way might delete what nothing named when it began.

    Raises:
        Corrupt, Unavailable, InvalidData: As `read_manifest`.
    """
    try:
        manifest = read_manifest(store, digest)
    except errors.NotFound:
        return False
    return all(store.refresh(name) for name in (*dict.fromkeys(entry.digest for entry in manifest.files), digest))


def media_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def check_path(path: str) -> None:
    """Refuse a manifest path that could leave its directory."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path or str(parts) != path:
        raise errors.InvalidData(
            f"{path!r} is not a safe relative path.", remedy="Use forward slashes, no '..' and no leading slash."
        )
