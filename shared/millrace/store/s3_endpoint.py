"""An S3 service: how settings name it, this process's client for it, and its errors in our words."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from millrace import errors
from millrace.settings import Settings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_REFUSED = {
    "AccessDenied", "AccountProblem", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}  # fmt: skip
_FULL = {"EntityTooLarge", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An S3 service and a bucket, as MILLRACE_STORE_URL names them. Holds no sockets: those belong to a process.

    Attributes:
        host: host:port.
        is_secure: Whether HTTPS is spoken.
        bucket: Where the store's keys lie.
    """

    host: str
    is_secure: bool
    bucket: str
    access_key: str
    secret_key: str
    region: str

    @property
    def client(self) -> Minio:
        """This process's client, which retries what is safe to repeat: reads, and writes that set the same bytes."""
        return _client(os.getpid(), replace(self, bucket=""), num_retries=3, read_timeout_s=30.0)

    @property
    def single_shot_client(self) -> Minio:
        """This process's client for conditional writes: a repeat of one whose answer was lost would refuse itself."""
        return _client(os.getpid(), replace(self, bucket=""), num_retries=0, read_timeout_s=20.0)


def endpoint(settings: Settings) -> Endpoint:
    """Read the endpoint from settings.

    Raises:
        InvalidInput: The URL is not ``s3+http[s]://host[:port]/bucket``; it is not repeated, as it may hold a secret.
    """
    url = urlsplit(settings.store)
    bucket = url.path.strip("/")
    with contextlib.suppress(ValueError):  # from a port or a host that is none
        is_plain = not (url.username or url.password or url.query or url.fragment)
        if url.hostname and is_plain and is_bucket(bucket) and (url.port is None or url.port):
            where = Endpoint(
                host=url.netloc,
                is_secure=url.scheme == "s3+https",
                bucket=bucket,
                access_key=settings.store_access_key,
                secret_key=settings.store_secret_key.get_secret_value(),
                region=settings.store_region,
            )
            Minio(where.host)  # refuses what is no host name
            return where
    raise errors.InvalidInput(
        "Expected s3+http://host:port/bucket or s3+https://host/bucket.",
        field="MILLRACE_STORE_URL",
        remedy="Name one bucket and no folder; keys go into MILLRACE_STORE_ACCESS_KEY and MILLRACE_STORE_SECRET_KEY.",
    )


def is_bucket(name: str) -> bool:
    """Whether S3 permits a bucket of this name."""
    return _BUCKET.fullmatch(name) is not None and ".." not in name


@functools.lru_cache(maxsize=16)
def _client(_pid: int, where: Endpoint, *, num_retries: int, read_timeout_s: float) -> Minio:
    # One client a process (its id is part of the key): sockets shared across a fork mix two processes' answers. The
    # client's own defaults wait for tens of minutes on a host that drops packets.
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=3.0, read=read_timeout_s),
        maxsize=32,
        retries=urllib3.Retry(
            total=num_retries,
            connect=min(num_retries, 1),
            read=min(num_retries, 1),
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504] if num_retries else [],
        ),
    )
    return Minio(
        where.host,
        access_key=where.access_key or None,
        secret_key=where.secret_key or None,
        secure=where.is_secure,
        region=where.region,
        http_client=pool,
    )


@contextlib.contextmanager
def translated(where: Endpoint) -> Iterator[None]:
    """Turn the client's errors into ours, with the setting to look at."""
    try:
        yield
    except S3Error as error:
        raise _from_code(where, error.code or "", error.message or "") from error
    except (ServerError, InvalidResponseError, ElementTree.ParseError) as error:  # half a document, from one that dies
        raise errors.Unavailable(
            f"The store at {where.host} did not answer as an S3 service does: {str(error)[:200]}.",
            remedy="Check that MILLRACE_STORE_URL names an S3 service, and its state.",
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise unreachable(where, error) from error


def _from_code(where: Endpoint, code: str, message: str) -> errors.MillraceError:
    said = f"The store at {where.host} answered {code}{f' ({message})' if message else ''}"
    if code in _REFUSED:
        return errors.Unauthorized(
            f"{said} for bucket {where.bucket}.",
            remedy="Check MILLRACE_STORE_ACCESS_KEY, MILLRACE_STORE_SECRET_KEY, their rights, and this host's clock.",
        )
    if code == "NoSuchBucket":
        return errors.NotFound(
            f"{said}: there is no bucket {where.bucket}.",
            remedy="Create it, or correct its name; MILLRACE_STORE_URL names the store's own.",
        )
    if code in _FULL:
        return errors.ResourceExhausted(f"{said}.", remedy="Free space in the store, or raise its quota.")
    return errors.Unavailable(
        f"{said}.", remedy="Try again; if it goes on, look into that service's log.", s3_code=code
    )


def unreachable(where: Endpoint, error: urllib3.exceptions.HTTPError) -> errors.Unavailable:
    """The error for a request without an answer."""
    reason = getattr(error, "reason", None) or error
    return errors.Unavailable(
        f"The store at {where.host} did not answer: {type(reason).__name__}.",
        remedy="Check MILLRACE_STORE_URL (host, port, http or https) and that the service runs.",
    )
