"""Reading what others put into S3: sources of an ingest, at the store's own service and with its credentials."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from millrace import errors
from millrace.settings import Settings
from millrace.store import s3_objects
from millrace.store.keys import ALL_TENANTS
from millrace.store.s3_endpoint import Endpoint, endpoint, is_bucket, translated
from millrace.store.verified import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ExternalObject:
    """An object below a source's prefix.

    Attributes:
        url: Opens it, ``s3://bucket/key``.
        path: Relative to the prefix; its last part if the prefix is the object itself.
        etag: Changes when its bytes do; not a digest.
    """

    url: str
    path: str
    size_bytes: int
    etag: str


def list_objects(url: str, settings: Settings) -> Iterator[ExternalObject]:
    """List the objects that ``s3://bucket/prefix`` names, sorted: the one of that key, and all in that folder.

    Raises:
        InvalidInput: The URL is malformed, or the store is a directory, so that no service is configured.
        NotFound: There is no such bucket, or nothing under the prefix.
        Unauthorized, Unavailable: From the service.
    """
    where, prefix = _parse(url, settings)
    folder = f"{prefix}/" if prefix else ""
    found = 0
    with translated(where):
        for item in where.client.list_objects(where.bucket, prefix=prefix, recursive=True):
            key = str(item.object_name)
            # `raw` names raw and raw/a, not raw2; consoles make empty objects that end in / to show a folder.
            if key.endswith("/") or not (key == prefix or key.startswith(folder)) or _is_reserved(where, key, settings):
                continue
            found += 1
            path = key.rpartition("/")[2] if key == prefix else key.removeprefix(folder)
            yield ExternalObject(
                url=f"s3://{where.bucket}/{key}", path=path, size_bytes=int(item.size or 0), etag=str(item.etag or "")
            )
    if not found:
        raise _not_found(url, where)


@contextlib.contextmanager
def open_object(url: str, settings: Settings, *, etag: str = "") -> Iterator[BinaryIO]:
    """Stream one object's bytes; a dropped connection is resumed on the same version of the object.

    Args:
        url: ``s3://bucket/key``.
        settings: Of the service.
        etag: What a listing said of it; empty: whatever is there.

    Raises:
        InvalidInput, NotFound, Unauthorized, Unavailable: As `list_objects` does.
        InvalidData: The object has changed since it was listed.
    """
    where, key = _parse(url, settings)
    reader = None if _is_reserved(where, key, settings) else s3_objects.open_object(where, where.bucket, key)
    if reader is None:
        raise _not_found(url, where)
    with io.BufferedReader(reader, CHUNK_BYTES) as stream:
        if etag and reader.etag.strip('"') != etag.strip('"'):
            raise errors.InvalidData(
                f"{url[:200]} has changed since it was listed.",
                remedy="A run on its present bytes follows by its trigger.",
            )
        yield stream


def _parse(url: str, settings: Settings) -> tuple[Endpoint, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not is_bucket(bucket):
        raise errors.InvalidInput(f"{url[:200]!r} is not a source.", remedy="Write s3://bucket/prefix.")
    if not settings.store.startswith("s3+"):
        raise errors.InvalidInput(
            f"{url[:200]} needs an S3 service, and the store is a directory.",
            field="MILLRACE_STORE_URL",
            remedy="Set it to s3+http://host:port/bucket, and MILLRACE_STORE_ACCESS_KEY and _SECRET_KEY with it.",
        )
    return replace(endpoint(settings), bucket=bucket), key.rstrip("/")


def _is_reserved(where: Endpoint, key: str, settings: Settings) -> bool:
    # What the store itself keeps belongs to its tenants, whom only `Store` tells apart.
    return where.bucket == endpoint(settings).bucket and key.startswith(ALL_TENANTS)


def _not_found(url: str, where: Endpoint) -> errors.NotFound:
    return errors.NotFound(
        f"There is nothing at {url[:200]} on {where.host}.",
        remedy="Check bucket and prefix; the service is the one that MILLRACE_STORE_URL names.",
    )
