"""The S3 adapter: any service that honours conditional writes, such as AWS, MinIO and Ceph's gateway."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from minio.error import S3Error

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.settings import Settings
from millrace.store import BlobInfo, keys, refs, s3_sweeping
from millrace.store.ages import is_old
from millrace.store.disk import copy, deliver, open_input
from millrace.store.s3_endpoint import endpoint, translated
from millrace.store.s3_objects import ObjectInfo, ObjectReader, open_object, part_bytes, put_if, stat, upload
from millrace.store.verified import chunks, hash_stream, missing, too_large, verified

SPOOL_BYTES = 8 * 2**20  # a stream up to this size waits for its digest in memory, a longer one in a temporary file
_REF_PAUSES_S = (0.0, 0.05, 0.1, 0.3, 1.0, 2.0)


class S3Store:
    """Blobs and refs as objects of one bucket, which is made at first use if it is missing and that is permitted.

    A blob that is there already is not sent again; if what is there has another ETag than these bytes would get, it is
    replaced. (A service that encrypts with keys of its own has other ETags: it is sent again each time, which is
    slower, never wrong.)
    """

    def __init__(self, settings: Settings, *, tenant: str) -> None:
        """Make no request yet. Raises InvalidInput for a malformed MILLRACE_STORE_URL or tenant."""
        self.tenant = tenant
        self._grace_s = settings.gc_grace_s
        self._where = endpoint(settings)
        self._refs = keys.ref_prefix(tenant)
        self._is_bucket_known = False
        # Ceph compares If-Match with the bare ETag, the standard demands quotes, AWS and MinIO take both. The first
        # refusal of an ETag that did not change turns this around.
        self._quotes_etags = False

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        """See Store.put_stream."""
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            digest, size = copy(stream, file, Path(tempfile.gettempdir()))
            self._put(file, digest, size)
        return digest, size

    def put_bytes(self, data: bytes) -> str:
        """See Store.put_bytes."""
        digest = hashlib.sha256(data).hexdigest()
        self._put(io.BytesIO(data), digest, len(data))
        return digest

    def put_file(self, path: Path) -> tuple[str, int]:
        """See Store.put_file."""
        with open_input(path) as file:
            digest, size = hash_stream(file)
            self._put(file, digest, size)
        return digest, size

    def get_bytes(self, digest: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        """See Store.get_bytes."""
        with self._reader(digest) as reader:
            if reader.size > max_bytes:
                raise too_large(digest, reader.size, max_bytes)
            return verified(reader, digest, size=reader.size).read()

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """See Store.open."""
        with self._reader(digest) as reader:
            yield verified(reader, digest, size=reader.size)

    def fetch(self, digest: str, destination: Path) -> None:
        """See Store.fetch."""
        with self.open(digest) as source:
            deliver(source, destination)

    def exists(self, digest: str) -> bool:
        """See Store.exists."""
        return self._stat(digest) is not None

    def size(self, digest: str) -> int:
        """See Store.size."""
        found = self._stat(digest)
        if found is None:
            raise missing(digest)
        return found.size

    def read_ref(self, name: str) -> Ref | None:
        """See Store.read_ref."""
        return self._read_ref(name)[0]

    def write_ref(self, name: str, ref: Ref, *, expected: Ref | None) -> bool:
        """See Store.write_ref."""
        key, body = keys.ref_key(self.tenant, name), ref.to_json().encode()
        refused_etag: str | None = ""
        fault: errors.Unavailable | None = None
        # Each round reads first, which also settles the write of the round before: refused, or its answer lost.
        for pause_s in _REF_PAUSES_S:
            time.sleep(pause_s)
            current, etag = self._read_ref(name)
            settled = refs.settled(current, ref, expected=expected)
            if settled is not None:
                return settled
            if etag is not None and etag == refused_etag:
                self._quotes_etags = not self._quotes_etags
            condition = f'"{etag}"' if etag is not None and self._quotes_etags else etag
            try:
                if put_if(self._where, key, body, etag=condition):
                    return True
                refused_etag, fault = etag, None
            except errors.Unavailable as error:
                fault = error
        raise fault or errors.Unavailable(
            f"The store at {self._where.host} keeps refusing to write ref {name}, though nobody else wrote it.",
            remedy="Use a service that honours If-Match and If-None-Match; `millrace doctor` checks that.",
        )

    def list_refs(self, prefix: str = "") -> Iterator[str]:
        """See Store.list_refs."""
        self._ensure_bucket()
        with translated(self._where):
            for item in self._where.client.list_objects(
                self._where.bucket, prefix=f"{self._refs}{prefix}", recursive=True
            ):
                yield item.object_name.removeprefix(self._refs)

    def delete_ref(self, name: str) -> None:
        """See Store.delete_ref."""
        key = keys.ref_key(self.tenant, name)
        self._ensure_bucket()
        with translated(self._where):
            self._where.client.remove_object(self._where.bucket, key)

    def refresh(self, digest: str) -> bool:
        """See Store.refresh."""
        self._ensure_bucket()
        found = self._stat(digest)
        if found is None or not self._is_old(found):
            return found is not None
        # Through this process, not copied by the service: a copy would get another ETag than the same bytes sent.
        with self.open(digest) as source:
            upload(self._where, keys.blob_key(self.tenant, digest), source, size=found.size)
        s3_sweeping.await_sweep(self._where, self.tenant, digest)
        return self.exists(digest)

    def list_blobs(self, *, after: str = "") -> Iterator[BlobInfo]:
        """See Store.list_blobs."""
        self._ensure_bucket()
        prefix = keys.blob_prefix(self.tenant)
        start = keys.blob_key(self.tenant, after) if after else None
        with translated(self._where):
            for item in self._where.client.list_objects(
                self._where.bucket, prefix=prefix, recursive=True, start_after=start
            ):
                digest = str(item.object_name).rpartition("/")[2]
                yield BlobInfo(digest, int(item.size), item.last_modified.timestamp())

    def delete_blobs(self, digests: Sequence[str], *, untouched_since: float) -> list[str]:
        """See Store.delete_blobs."""
        return s3_sweeping.delete_untouched(self._where, self.tenant, digests, untouched_since=untouched_since)

    def clear_leftovers(self, *, untouched_since: float) -> int:
        """See Store.clear_leftovers."""
        self._ensure_bucket()
        return s3_sweeping.clear_leftovers(self._where, self.tenant, untouched_since=untouched_since)

    def clock(self) -> float:
        """See Store.clock."""
        self._ensure_bucket()
        return s3_sweeping.probe_clock(self._where, self.tenant)

    def check(self) -> None:
        """See Store.check. Also proves on an object of its own, which it removes, that conditions are honoured."""
        digest = self.put_bytes(b"millrace store check\n")
        self.get_bytes(digest)
        key = keys.probe_key(self.tenant, secrets.token_hex(16))
        try:
            is_honoured = put_if(self._where, key, b"first", etag=None) and not put_if(
                self._where, key, b"second", etag=None
            )
            is_honoured = is_honoured and not put_if(self._where, key, b"third", etag="0" * 32)
        finally:
            with translated(self._where):
                self._where.client.remove_object(self._where.bucket, key)
        if not is_honoured:
            raise errors.Unavailable(
                f"The store at {self._where.host} ignores conditional writes, without which two writers of a ref "
                "both win.",
                remedy="Set MILLRACE_STORE_URL to an S3 service that honours If-Match and If-None-Match.",
            )

    def _put(self, file: BinaryIO, digest: str, size: int) -> None:
        self._ensure_bucket()
        found = self._stat(digest)
        if found is not None and found.size == size and not self._is_old(found):
            file.seek(0)
            if found.etag == _etag_of(file, size):
                return
        self._send(file, digest, size)
        if found is not None:
            # What was there may be about to be collected, and its collector may not have seen that it is new again.
            s3_sweeping.await_sweep(self._where, self.tenant, digest)
            if not self.exists(digest):
                self._send(file, digest, size)

    def _send(self, file: BinaryIO, digest: str, size: int) -> None:
        file.seek(0)
        # Verified as it is read, so that a file which changes meanwhile aborts the upload instead of being stored
        # under the digest of what it was.
        source = verified(file, digest, size=size, fault=_changed)
        upload(self._where, keys.blob_key(self.tenant, digest), source, size=size)

    def _stat(self, digest: str) -> ObjectInfo | None:
        return stat(self._where, keys.blob_key(self.tenant, digest))

    def _is_old(self, found: ObjectInfo) -> bool:
        return is_old(found.modified_at, now=found.now, grace_s=self._grace_s)

    @contextlib.contextmanager
    def _reader(self, digest: str) -> Iterator[ObjectReader]:
        key = keys.blob_key(self.tenant, digest)
        self._ensure_bucket()
        reader = open_object(self._where, self._where.bucket, key)
        if reader is None:
            raise missing(digest)
        with contextlib.closing(reader):
            yield reader

    def _read_ref(self, name: str) -> tuple[Ref | None, str | None]:
        key = keys.ref_key(self.tenant, name)
        self._ensure_bucket()
        reader = open_object(self._where, self._where.bucket, key)
        if reader is None:
            return None, None
        with contextlib.closing(reader):
            return refs.decode(name, b"".join(chunks(reader))), reader.etag.strip('"')

    def _ensure_bucket(self) -> None:
        if self._is_bucket_known:
            return
        client, bucket = self._where.client, self._where.bucket
        with translated(self._where):
            try:
                if not client.bucket_exists(bucket):
                    client.make_bucket(bucket, location=self._where.region)
            except S3Error as error:
                # Another process was first; or these keys may use objects but not look at buckets.
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "AccessDenied"}:
                    raise
        self._is_bucket_known = True


def _etag_of(file: BinaryIO, size: int) -> str:
    """The ETag that our upload of these bytes gets: their MD5, or for parts the MD5 of MD5s and their number."""
    step = part_bytes(size)
    if size <= step:
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    parts = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: file.read(step), b"")]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _changed(_found: str) -> errors.Conflict:
    return errors.Conflict("The file changed while it was being stored.", remedy="Store it when its writer is done.")
