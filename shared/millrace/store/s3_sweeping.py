"""Deleting objects beside writers, on a service that cannot delete on a condition.

Between a collector's look at an object's age and its deletion a writer may store the same bytes again. So the collector
first publishes what it is about to delete, then looks, deletes, and withdraws the list. A writer that stored over an
object which was there reads the list afterwards: if its digest is not on it, any collector looks after the write and
sees that it is new; if it is, the writer waits for the list to go, and stores again what was deleted.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence

from millrace.store import keys
from millrace.store.s3_endpoint import Endpoint, translated
from millrace.store.s3_objects import open_object, stat, upload_bytes
from millrace.store.verified import chunks

SWEEP_S = 30.0
"""A collector deletes nothing later than this after it published its list. A request for it ends within 30 s more."""

PARDON_S = 90.0
"""How long a writer waits for a list to go: one that stays belongs to a collector that died."""

_POLL_S = 0.2


def delete_untouched(where: Endpoint, tenant: str, digests: Sequence[str], *, untouched_since: float) -> list[str]:
    """See Store.delete_blobs. Where the bucket keeps versions, deletes the very version that it looked at."""
    begin, deleted = time.monotonic(), []
    list_key = keys.condemned_key(tenant)
    upload_bytes(where, list_key, "\n".join(digests).encode())
    for digest in digests:
        if time.monotonic() - begin > SWEEP_S:
            break
        if _delete(where, keys.blob_key(tenant, digest), untouched_since):
            deleted.append(digest)
    # Not after a failure: a deletion without an answer may still happen, and writers wait as long as the list is there.
    _remove(where, list_key, None)
    return deleted


def await_sweep(where: Endpoint, tenant: str, digest: str) -> None:
    """Return once no collector can delete what was stored under this digest before the call."""
    deadline = time.monotonic() + PARDON_S
    while digest in _condemned(where, tenant) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def clear_leftovers(where: Endpoint, tenant: str, *, untouched_since: float) -> int:
    """See Store.clear_leftovers: uploads in parts that nobody completed, and probes of killed processes."""
    num_removed = 0
    for key, upload_id in _unfinished(where, keys.tenant_prefix(tenant), untouched_since):
        with translated(where):
            where.client._abort_multipart_upload(where.bucket, key, upload_id)
        num_removed += 1
    with translated(where):
        for item in where.client.list_objects(where.bucket, prefix=keys.probe_key(tenant, ""), recursive=True):
            if item.last_modified.timestamp() < untouched_since:
                _remove(where, item.object_name, None)
                num_removed += 1
    return num_removed


def probe_clock(where: Endpoint, tenant: str) -> float:
    """The service's clock, in whole seconds, as it dates an object."""
    key = keys.probe_key(tenant, secrets.token_hex(16))
    upload_bytes(where, key, b"clock")
    try:
        found = stat(where, key)
    finally:
        _remove(where, key, None)
    assert found is not None  # S3 promises that a write is read at once
    return found.modified_at


def _delete(where: Endpoint, key: str, untouched_since: float) -> bool:
    """Delete an object and the versions behind it, as long as the newest that shows is old."""
    is_deleted = False
    while (found := stat(where, key)) is not None and found.modified_at + 1.0 <= untouched_since:  # in whole seconds
        _remove(where, key, found.version)
        is_deleted = True
        if found.version is None:
            break
    return is_deleted


def _remove(where: Endpoint, key: str, version: str | None) -> None:
    with translated(where):  # one request without retries, so that it is known when the last of it can take effect
        where.single_shot_client.remove_object(where.bucket, key, version_id=version)


def _condemned(where: Endpoint, tenant: str) -> frozenset[str]:
    reader = open_object(where, where.bucket, keys.condemned_key(tenant))
    if reader is None:
        return frozenset()
    with contextlib.closing(reader):
        return frozenset(b"".join(chunks(reader)).decode().split())


def _unfinished(where: Endpoint, prefix: str, before: float) -> Iterator[tuple[str, str]]:
    marker: str | None = None
    while True:
        with translated(where):
            page = where.client._list_multipart_uploads(where.bucket, prefix=prefix, key_marker=marker)
        for found in page.uploads:
            if found.initiated_time is not None and found.initiated_time.timestamp() < before:
                yield str(found.object_name), str(found.upload_id)
        if not page.is_truncated or page.next_key_marker == marker:
            return
        marker = page.next_key_marker
