"""Pages: a long list of JSON rows as one artifact, read a page at a time, so that no message grows with a run.

Plans (a task a row) and indexes of results (a task's result a row, in task order) are stored so. Files are
`rows/00000.jsonl`, `rows/00001.jsonl`, ...; the manifest's meta says `rows` and `page_rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest
from millrace.contracts.base import canonical_json
from millrace.store import Store
from millrace.store.artifacts import read_manifest, write_manifest

PAGE_ROWS = 1000
"""Rows a page: with rows of at most 4 KiB a page fits in memory many times over, and 100,000 rows are 100 files."""


def write_pages(
    store: Store,
    type: ArtifactType,
    rows: Iterable[Mapping[str, Any]],
    *,
    meta: Mapping[str, Any] | None = None,
    page_rows: int = PAGE_ROWS,
) -> ArtifactRef:
    """Store rows as pages, a page in memory at a time; equal rows give the same reference.

    Raises:
        ValueError, TypeError: A row is not JSON (not finite, or a value of another type).
    """
    files: dict[str, FileEntry] = {}
    num_rows = 0
    remaining = iter(rows)
    while page := list(islice(remaining, page_rows)):
        data = "".join(canonical_json(dict(row)) + "\n" for row in page).encode()
        path = _page_path(len(files))
        files[path] = FileEntry(
            path=path, digest=store.put_bytes(data), size_bytes=len(data), media_type="application/jsonl"
        )
        num_rows += len(page)
    return write_manifest(store, type, files, meta={**(meta or {}), "rows": num_rows, "page_rows": page_rows})


def read_pages(store: Store, ref: ArtifactRef) -> Iterator[dict[str, Any]]:
    """Yield all rows in order, a page in memory at a time."""
    for entry in read_manifest(store, ref.digest).files:
        yield from _decode(store.get_bytes(entry.digest))


def read_row(store: Store, ref: ArtifactRef, index: int) -> dict[str, Any]:
    """Return one row, reading one page.

    Raises:
        InvalidData: The artifact has no such row.
    """
    manifest = read_manifest(store, ref.digest)
    num_rows, page_rows = _shape(manifest, ref)
    if not 0 <= index < num_rows:
        raise errors.InvalidData(f"Artifact {ref.digest[:12]} has {num_rows} rows; there is no row {index}.")
    path = _page_path(index // page_rows)
    digest = next(entry.digest for entry in manifest.files if entry.path == path)
    line = store.get_bytes(digest).splitlines()[index % page_rows]  # the other rows are left as they are
    return next(_decode(line))


def _page_path(number: int) -> str:
    return f"rows/{number:05d}.jsonl"


def _shape(manifest: Manifest, ref: ArtifactRef) -> tuple[int, int]:
    try:
        return int(manifest.meta["rows"]), int(manifest.meta["page_rows"])
    except (KeyError, TypeError, ValueError) as error:
        raise errors.InvalidData(f"Artifact {ref.digest[:12]} is not a list of rows in pages.") from error


def _decode(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        row: dict[str, Any] = json.loads(line)
        yield row
