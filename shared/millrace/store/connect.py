"""Which adapter a settings' store URL means."""

from __future__ import annotations

from pathlib import Path

from millrace.settings import Settings
from millrace.store import Store
from millrace.store.local import LocalStore


def open_store(settings: Settings, *, tenant: str = "default") -> Store:
    """Open a tenant's part of the store that MILLRACE_STORE_URL names, or of the directory under MILLRACE_HOME.

    The S3 adapter makes no request here: `Store.check` says whether it answers.

    Raises:
        InvalidInput: The URL or the tenant's name is malformed.
        Unauthorized, ResourceExhausted, Unavailable: The directory cannot be made.
    """
    if settings.store.startswith("file://"):
        root = Path(settings.store.removeprefix("file://"))
        return LocalStore(root, tenant=tenant, grace_s=settings.gc_grace_s)
    # Imported here because the client takes 60 ms to import, which a laptop's factory need not pay.
    from millrace.store.s3 import S3Store

    return S3Store(settings, tenant=tenant)


def adapter_modules(url: str) -> tuple[str, ...]:
    """What a warm process imports once for a store, so that its forked children need not: the S3 client takes 0.13 s."""
    return () if url.startswith("file://") else ("millrace.store.s3",)
