"""The least of HTTP over raw ASGI: bounded bodies, JSON answers, problems, event streams. A framework costs more than
the prediction of a small model does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.faults import path_of, said
from millrace.contracts.views import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Body = TypeVar("Body", bound=Contract)

MAX_BODY_BYTES = 16 * 2**20
"""4096 rows of 4 KB; larger jobs belong to the `predict` stage."""

JSON = b"application/json"
PROBLEM = b"application/problem+json"
EVENTS = b"text/event-stream"


class TooLarge(errors.InvalidInput):
    """The body exceeds what one request may have."""

    code = "too_large"
    http_status = 413


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: It is larger than MAX_BODY_BYTES, whatever its header said.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise _too_large()
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body  # one part, as nearly always
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
    return b"".join(parts)


def parse(body: bytes) -> Any:
    """Decode JSON. Raises InvalidInput with the position of the fault."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.InvalidInput(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            field="body", remedy="Send a JSON object.",
        ) from None  # fmt: skip


def validate(kind: type[Body], value: Any) -> Body:
    """Check a decoded body against its contract. Raises InvalidInput with the field's path."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = _path(path_of(first))
        remedy = ""
        if first["type"] == "extra_forbidden":
            remedy = f"Remove it; {errors.nearest(str(first['loc'][-1]), kind.model_fields)}"
            raise errors.InvalidInput("This field is unknown.", field=field, remedy=remedy) from None
        if first["type"] == "too_long":
            remedy = "Send fewer rows a request, or predict a whole file with `millrace batch`."
        raise errors.InvalidInput(said(first), field=field or "body", remedy=remedy) from None


async def send_json(send: Send, value: Any, *, status: int = 200, media_type: bytes = JSON, retry_s: int = 0) -> None:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    if retry_s:
        headers.append((b"retry-after", b"%d" % retry_s))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, error: errors.MillraceError) -> None:
    """Answer an error; one that may pass says when to come again."""
    status = error.http_status
    await send_json(send, problem_of(error), status=status, media_type=PROBLEM, retry_s=1 if status == 503 else 0)


def problem_of(error: errors.MillraceError) -> dict[str, Any]:
    return Problem(
        title=HTTPStatus(error.http_status).phrase,
        status=error.http_status,
        detail=error.message,
        code=error.code,
        remedy=error.remedy,
        field=error.field,
    ).model_dump(mode="json")


async def send_events(send: Send, events: AsyncGenerator[tuple[str, Any], None]) -> None:
    """Answer by server-sent events of (name, JSON value)."""
    headers = [(b"content-type", EVENTS), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for name, value in events:
        await send({"type": "http.response.body", "body": event_bytes(name, value), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def event_bytes(name: str, value: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


def _path(loc: tuple[int | str, ...]) -> str:
    """`("rows", 3, "age")` as `rows[3].age`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _too_large() -> TooLarge:
    return TooLarge(
        f"The body is larger than {MAX_BODY_BYTES // 2**20} MiB.", field="body",
        remedy="Send fewer rows a request, or predict a whole file with `millrace batch`.",
    )  # fmt: skip
