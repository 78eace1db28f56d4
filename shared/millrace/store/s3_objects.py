"""Objects: uploads in parts, conditional writes, and reads that resume."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from minio.error import S3Error

from millrace import errors
from millrace.store.s3_endpoint import Endpoint, translated, unreachable

PART_BYTES = 16 * 2**20  # the client holds whole parts in memory
_MAX_PARTS = 10_000
_NUM_PARALLEL_PARTS = 3
_READ_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0)
_PRECONDITION = {"PreconditionFailed", "ConditionalRequestConflict", "ConcurrentModification", "NoSuchKey"}


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a service says of an object.

    Attributes:
        modified_at, now: When it was written and when it answered, in seconds since 1970 by its own clock.
        version: Of a bucket that keeps versions.
    """

    size: int
    etag: str
    modified_at: float
    now: float
    version: str | None


def stat(where: Endpoint, key: str) -> ObjectInfo | None:
    """Look at an object; None if there is none. Raises what `translated` says."""
    with translated(where):
        try:
            found = where.client.stat_object(where.bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise
    said = (found.metadata or {}).get("Date")
    return ObjectInfo(
        size=int(found.size or 0),
        etag=str(found.etag),
        modified_at=found.last_modified.timestamp() if found.last_modified else 0.0,
        now=parsedate_to_datetime(said).timestamp() if said else time.time(),
        version=found.version_id,
    )


def part_bytes(size: int) -> int:
    """The size of one part of an upload: 16 MiB, more only where 10,000 of those are too few."""
    return max(PART_BYTES, math.ceil(size / _MAX_PARTS / 2**20) * 2**20)


def upload(where: Endpoint, key: str, source: Any, *, size: int) -> None:
    """Write an object of known size from a reader, in parts if it is large. Raises what `translated` says."""
    with translated(where):
        # Parts in parallel: one connection to a distant service carries a fraction of the line.
        where.client.put_object(
            where.bucket, key, source, size, part_size=part_bytes(size), num_parallel_uploads=_NUM_PARALLEL_PARTS
        )


def upload_bytes(where: Endpoint, key: str, body: bytes) -> None:
    """Write a small object."""
    upload(where, key, io.BytesIO(body), size=len(body))


def put_if(where: Endpoint, key: str, body: bytes, *, etag: str | None) -> bool:
    """Write a small object only if it has this ETag as given (None: only if it is absent); False if refused.

    Raises:
        Unavailable: No answer came, so the write may have happened, now or later: read back before the next step.
    """
    condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
    with translated(where):
        try:
            # The public put_object turns unknown headers into user metadata, which a server ignores.
            where.single_shot_client._put_object(where.bucket, key, body, headers=condition)
        except S3Error as error:
            if error.code in _PRECONDITION:
                return False
            raise
    return True


class ObjectReader(io.RawIOBase):
    """Reads an object from start to end; a dropped connection is resumed by range, on the very same object.

    Attributes:
        size: Bytes in all.
        etag: As the service gave it.
    """

    def __init__(self, where: Endpoint, bucket: str, key: str) -> None:
        self._where, self._bucket, self._key = where, bucket, key
        self._position, self.etag = 0, ""
        self._response: Any = self._request()
        self.size = int(self._response.headers.get("content-length", "0"))
        self.etag = str(self._response.headers.get("etag", ""))

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, none at the end. Raises Unavailable once several new connections broke too."""
        wanted = min(len(buffer), self.size - self._position)
        if wanted == 0:
            return 0
        fault: urllib3.exceptions.HTTPError
        for pause_s in _READ_PAUSES_S:
            time.sleep(pause_s)
            try:
                if chunk := self._read_once(wanted):
                    buffer[: len(chunk)] = chunk
                    return len(chunk)
                fault = urllib3.exceptions.IncompleteRead(self._position, self.size - self._position)
            except urllib3.exceptions.HTTPError as error:
                fault = error
            self._drop()
        raise unreachable(self._where, fault) from fault

    def close(self) -> None:
        """Drop the connection, unless all was read: then it went back to the pool already."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _read_once(self, wanted: int) -> bytes:
        if self._response is None:
            self._response = self._resume()
        chunk: bytes = self._response.read(wanted)
        self._position += len(chunk)
        return chunk

    def _resume(self) -> Any:
        with translated(self._where):
            try:
                return self._request()
            except S3Error as error:
                if error.code in _PRECONDITION:
                    raise errors.Unavailable(
                        f"Object {self._key} was replaced or removed while it was read.",
                        remedy="Read it again from the start.",
                    ) from error
                raise

    def _request(self) -> Any:
        # From the second request on the same ETag is demanded, so that no object is stitched together from two.
        pinned = {"If-Match": self.etag} if self.etag else None
        return self._where.client.get_object(self._bucket, self._key, offset=self._position, request_headers=pinned)


def open_object(where: Endpoint, bucket: str, key: str) -> ObjectReader | None:
    """Start to read an object; None if it does not exist. Raises what `translated` says."""
    with translated(where):
        try:
            return ObjectReader(where, bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise
