"""Stored blobs as answers: streamed, verified, resumable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack

from millrace_gateway.backends import Backends

CHUNK_BYTES = 2**20


async def blob_chunks(backends: Backends, digest: str) -> AsyncIterator[bytes]:
    """Yield a blob's bytes. A blob that differs from its digest breaks the answer off before its end."""
    with ExitStack() as stack:
        stream = await backends.call_long(lambda: stack.enter_context(backends.store.open(digest)))
        while chunk := await backends.call_long(stream.read, CHUNK_BYTES):
            yield chunk
