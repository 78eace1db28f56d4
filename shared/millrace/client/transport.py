"""Sending calls over httpx, sync and async: tries again what is safe to repeat, and turns problems into typed errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from millrace import errors
from millrace.client.calls import Call

T = TypeVar("T")

RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
"""Waits between tries when the gateway does not answer: a supervised one is back within them."""

SILENCE_S = 60.0
"""A stream that says nothing for so long is dead; the gateway's heartbeat comes every ten seconds."""


class Transport:
    """A connection pool to one gateway, for threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(**_options(url))

    def send(self, call: Call[T]) -> T:
        """Return the decoded answer. Raises the MillraceError that the gateway answered with, or Unavailable."""
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                return _read(self._http.send(self._request(call)), call)
            except (httpx.HTTPError, errors.Unavailable) as error:
                if delay_s is None or not _may_help(error):
                    raise _translated(error, _shown(self.url)) from None
                time.sleep(delay_s)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def stream(self, call: Call[None]) -> Iterator[httpx.Response]:
        """Open an answer that is read piece by piece. A break while it is read raises Unavailable."""
        try:
            response = self._http.send(self._request(call, read_timeout_s=SILENCE_S), stream=True)
            try:
                if response.is_error:
                    response.read()
                _raise_problem(response)
                yield response
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise _translated(error, _shown(self.url)) from None

    def close(self) -> None:
        self._http.close()

    def _request(self, call: Call[T], *, read_timeout_s: float = 0) -> httpx.Request:
        content = call.body() if callable(call.body) else call.body
        return self._http.build_request(
            call.method, call.path, params=call.query, headers=dict(call.headers), content=content,
            timeout=_timeout(call, read_timeout_s),
        )  # fmt: skip


class AsyncTransport:
    """A connection pool to one gateway, for one event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(**_options(url))

    async def send(self, call: Call[T]) -> T:
        """As `Transport.send`."""
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                return _read(await self._http.send(self._request(call)), call)
            except (httpx.HTTPError, errors.Unavailable) as error:
                if delay_s is None or not _may_help(error):
                    raise _translated(error, _shown(self.url)) from None
                await asyncio.sleep(delay_s)
        raise AssertionError("the last try returns or raises")

    @asynccontextmanager
    async def stream(self, call: Call[None]) -> AsyncIterator[httpx.Response]:
        """As `Transport.stream`."""
        try:
            response = await self._http.send(self._request(call, read_timeout_s=SILENCE_S), stream=True)
            try:
                if response.is_error:
                    await response.aread()
                _raise_problem(response)
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise _translated(error, _shown(self.url)) from None

    async def close(self) -> None:
        await self._http.aclose()

    def _request(self, call: Call[T], *, read_timeout_s: float = 0) -> httpx.Request:
        content = _in_threads(call.body()) if callable(call.body) else call.body
        return self._http.build_request(
            call.method, call.path, params=call.query, headers=dict(call.headers), content=content,
            timeout=_timeout(call, read_timeout_s),
        )  # fmt: skip


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a file's chunks without blocking the event loop."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


def _may_help(error: Exception) -> bool:
    """Whether to try again: not where the wait itself was the trouble, as another would only be as long."""
    return not isinstance(error, errors.DeadlineExceeded | httpx.ReadTimeout | httpx.WriteTimeout)


def _options(url: str) -> dict[str, Any]:
    # A proxy of the environment cannot reach this host's loopback.
    try:
        is_local = (httpx.URL(url).host or "") in ("127.0.0.1", "localhost", "::1")
    except httpx.InvalidURL as error:
        raise errors.InvalidInput(f"The gateway's URL is none: {error}.", field="MILLRACE_URL") from None
    return {"base_url": url, "trust_env": not is_local, "follow_redirects": False}


def _shown(url: str) -> str:
    """A URL for messages: without a password that it may hold."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


def _timeout(call: Call[Any], read_timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(call.timeout_s, connect=5.0, read=read_timeout_s or call.timeout_s)


def _read(response: httpx.Response, call: Call[T]) -> T:
    _raise_problem(response)
    try:
        return call.decode(response.content)
    except ValueError as error:
        raise errors.MillraceError(
            f"The answer to {call.method} {call.path} is not what this version expects: {error}",
            remedy="Use the same version of millrace here and at the gateway.",
        ) from None


def _raise_problem(response: httpx.Response) -> None:
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return
    payload: dict[str, Any] = {}
    try:
        body = json.loads(response.content)
        payload = body if isinstance(body, dict) else {}
    except ValueError:
        pass
    if "code" not in payload:
        broken = errors.Unavailable if response.status_code >= 500 else errors.MillraceError
        raise broken(
            f"{_shown(str(response.request.url))} answered {response.status_code} without saying why.",
            remedy="Check that MILLRACE_URL is a Millrace gateway.",
        )
    raise errors.from_payload({**payload, "message": payload.get("detail", "")})


def _translated(error: Exception, url: str) -> errors.MillraceError:
    if isinstance(error, errors.MillraceError):
        return error
    if isinstance(error, httpx.TimeoutException):
        return errors.DeadlineExceeded(f"{url} did not answer in time.", remedy="Try again, or look at its log.")
    if isinstance(error, httpx.ConnectError):
        return errors.Unavailable(
            f"No gateway answers at {url}.", remedy="Start one with `millrace up`, or correct MILLRACE_URL."
        )
    return errors.Unavailable(f"The connection to {url} broke: {error}.", remedy="Try again.")
