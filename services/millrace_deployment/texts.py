"""Answering a generation: whole, or piece by piece; who hangs up stops the model within a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from millrace import errors
from millrace.contracts.views import GenerateRequest, GenerateResponse
from millrace_deployment import http
from millrace_deployment.http import Receive, Send
from millrace_deployment.registry import Served


async def answer_text(served: Served, request: GenerateRequest, receive: Receive, send: Send) -> None:
    """Generate, and answer. Returns early when the caller hangs up.

    Raises:
        MillraceError: Before the first byte of the answer; a later error is the stream's last event.
    """
    answering = asyncio.ensure_future(_answer(served, request, send))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _answer(served: Served, request: GenerateRequest, send: Send) -> None:
    async with aclosing(served.generate(request)) as pieces:
        first = await anext(pieces, "")  # what cannot begin fails here, with a status of its own
        if request.stream:
            await http.send_events(send, _events(served, request, first, pieces))
            return
        texts = ([first] if first else []) + [piece async for piece in pieces]
    await http.send_json(send, _response(served, request, texts))


async def _events(
    served: Served, request: GenerateRequest, first: str, pieces: AsyncGenerator[str, None]
) -> AsyncGenerator[tuple[str, Any], None]:
    """`text` events, then one `done` with the whole answer, or one `error` with a problem."""
    texts: list[str] = []
    try:
        if first:
            texts.append(first)
            yield "text", {"text": first}
        async for piece in pieces:
            texts.append(piece)
            yield "text", {"text": piece}
    except errors.MillraceError as error:
        yield "error", http.problem_of(error)
        return
    yield "done", _response(served, request, texts)


def _response(served: Served, request: GenerateRequest, texts: list[str]) -> dict[str, Any]:
    reason: Literal["length", "stop"] = "length" if len(texts) >= request.max_tokens else "stop"
    return GenerateResponse(
        endpoint=served.desired.name,
        release=served.desired.release,
        model=served.digest,
        text="".join(texts),
        num_tokens=len(texts),
        finish_reason=reason,
    ).model_dump(mode="json")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
