"""Where things lie in a store: key layout, and the checks that keep every key inside its tenant."""

from __future__ import annotations

import re

from millrace import errors
from millrace.contracts.ids import is_name

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REF_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@=+-]*")
MAX_REF_NAME = 512
ALL_TENANTS = "t/"


def tenant_prefix(tenant: str) -> str:
    """Return ``t/<tenant>/``, under which everything of the tenant lies. Raises InvalidInput for a bad name."""
    if not is_name(tenant):
        raise errors.InvalidInput(
            f"{tenant!r} is not a tenant's name.",
            field="MILLRACE_TENANT",
            remedy="Use 1 to 63 lowercase letters, digits, '-' and '_', a letter first.",
        )
    return f"{ALL_TENANTS}{tenant}/"


def blob_key(tenant: str, digest: str) -> str:
    """Return ``t/<tenant>/cas/sha256/ab/cd/<hex>``. Raises InvalidInput unless digest is 64 lowercase hex digits."""
    if not _DIGEST.fullmatch(digest):
        raise errors.InvalidInput(f"{digest[:80]!r} is not a digest.", remedy="Give 64 lowercase hexadecimal digits.")
    return f"{blob_prefix(tenant)}{digest[:2]}/{digest[2:4]}/{digest}"


def blob_prefix(tenant: str) -> str:
    return f"{tenant_prefix(tenant)}cas/sha256/"


def ref_key(tenant: str, name: str) -> str:
    """Return ``t/<tenant>/refs/<name>``. Raises InvalidInput for a name that could leave that folder."""
    segments = name.split("/")
    well_formed = all(_REF_SEGMENT.fullmatch(segment) and len(segment) <= 200 for segment in segments)
    if not well_formed or len(name) > MAX_REF_NAME:
        raise errors.InvalidInput(
            f"{name[:80]!r} is not a ref's name.",
            remedy="Use letters, digits and '_.@=+-' in parts separated by '/'; no part starts with '.' or is empty.",
        )
    return f"{ref_prefix(tenant)}{name}"


def ref_prefix(tenant: str) -> str:
    return f"{tenant_prefix(tenant)}refs/"


def probe_key(tenant: str, name: str) -> str:
    """Of an object that is written to see what the service does, and removed."""
    return f"{tenant_prefix(tenant)}check/{name}"


def condemned_key(tenant: str) -> str:
    """Of the list of blobs that a collector is just deleting."""
    return f"{tenant_prefix(tenant)}collecting/condemned"
