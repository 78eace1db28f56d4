"""What a stored artifact names besides itself: the files of its manifest, and digests in its facts and its JSON."""

from __future__ import annotations

from dataclasses import dataclass

from millrace import errors
from millrace.contracts.artifacts import FileEntry, Manifest
from millrace.store import Store
from millrace.store.artifacts import MAX_MANIFEST_BYTES
from millrace_conductor.marks import digests_in

_BEGINS = b'{"files":['  # canonical JSON: a manifest is told by its first bytes, a blob of gigabytes is not read
_JSON = ("application/json", "application/jsonl")
_READ_TYPES = frozenset({"plan", "variants", "release", "checkpoint", "any"})
"""Artifacts of ours whose JSON names others; a user's data are not searched."""

_MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Named:
    """Digests that an artifact names: files are blobs, artifacts may be manifests."""

    files: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()


def named_by(store: Store, digest: str) -> Named:
    """Look into a blob. One that is no manifest, is not there or is corrupt names nothing.

    Raises:
        Unavailable and others: From the store; then it is not known what stays.
    """
    manifest = _manifest(store, digest)
    if manifest is None:
        return Named()
    artifacts = digests_in(manifest.model_dump_json(include={"meta"}))
    for entry in manifest.files if manifest.type in _READ_TYPES else ():
        if entry.media_type in _JSON and entry.size_bytes <= _MAX_JSON_BYTES:
            artifacts |= _in_file(store, entry)
    return Named(frozenset(entry.digest for entry in manifest.files), frozenset(artifacts))


def _manifest(store: Store, digest: str) -> Manifest | None:
    try:
        with store.open(digest) as stream:
            head = stream.read(len(_BEGINS))
            if head != _BEGINS:
                return None
            body = head + stream.read(MAX_MANIFEST_BYTES)
    except (errors.NotFound, errors.Corrupt):
        return None
    try:
        return Manifest.received_json(body)
    except ValueError:
        return None


def _in_file(store: Store, entry: FileEntry) -> set[str]:
    try:
        return digests_in(store.get_bytes(entry.digest, max_bytes=_MAX_JSON_BYTES).decode(errors="replace"))
    except (errors.NotFound, errors.Corrupt):
        return set()
