"""As `session`, with await. What blocks (finding a gateway, starting a factory) runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from millrace import errors
from millrace.client import calls, downloads
from millrace.client.calls import Call
from millrace.client.locator import Locator
from millrace.client.transport import AsyncTransport
from millrace.contracts.artifacts import FileEntry

T = TypeVar("T")


class AsyncSession:
    """For the tasks of one event loop."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._transport: AsyncTransport | None = None
        self._lock = asyncio.Lock()

    async def url(self) -> str:
        return (await self._connected()).url

    @property
    def started_factory(self) -> bool:
        return self._locator.started_factory

    async def send(self, call: Call[T]) -> T:
        """As `Session.send`."""
        transport = await self._connected()
        try:
            return await transport.send(call)
        except errors.Unavailable:
            if not await self.moved(transport.url):
                raise
            return await (await self._connected()).send(call)

    @asynccontextmanager
    async def stream(self, call: Call[None]) -> AsyncIterator[httpx.Response]:
        """As `Session.stream`."""
        async with (await self._connected()).stream(call) as response:
            yield response

    async def moved(self, lost: str) -> bool:
        """As `Session.moved`."""
        async with self._lock:
            if self._transport is None or self._transport.url != lost:
                return True
            url = await asyncio.to_thread(self._locator.relocate, lost)
            if url == lost:
                return False
            await self._transport.close()
            self._transport = AsyncTransport(url)
            return True

    async def download(self, digest: str, entry: FileEntry, target: Path) -> None:
        """As `Session.download`."""
        with downloads.verified(entry, target) as write:
            async with self.stream(calls.download_file(digest, entry.path)) as response:
                async for chunk in response.aiter_bytes():
                    await asyncio.to_thread(write, chunk)

    async def close(self) -> None:
        """As `Session.close`."""
        async with self._lock:
            if self._transport is not None:
                await self._transport.close()
                self._transport = None
        await asyncio.to_thread(self._locator.close)

    async def _connected(self) -> AsyncTransport:
        async with self._lock:
            if self._transport is None:
                self._transport = AsyncTransport(await asyncio.to_thread(self._locator.locate))
            return self._transport
