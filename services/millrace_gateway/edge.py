"""The outermost layer of the API: who may call from where, how large a body may be, counting, and the last resort."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.contracts.views import Problem
from millrace_gateway import problems
from millrace_gateway.settings import GatewaySettings

REQUESTS = Counter("millrace_gateway_requests_total", "Answered requests.", ("method", "route", "status"))
SECONDS = Histogram(
    "millrace_gateway_request_seconds", "From the request's first byte to the answer's last.", ("method", "route")
)

UPLOAD_PATHS = ("/v1/datasets", "/v1/artifacts")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self.app = app
        self.hosts = _allowed_hosts(settings)
        self.max_body_bytes = settings.gateway_max_body_bytes
        self.max_upload_bytes = settings.gateway_max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        begin = time.perf_counter()
        try:
            await self._serve(scope, receive, answer)
        except Exception as error:  # the last resort: whatever it is, the caller gets a Problem
            if answer.is_complete:
                return  # the application told the caller, and raised again only to be logged
            if answer.status:
                raise  # half an answer is out; the server closes the connection, which the caller can see
            await problems.unexpected(error, path=scope["path"])(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            REQUESTS.labels(scope["method"], route, str(answer.status)).inc()
            SECONDS.labels(scope["method"], route).observe(time.perf_counter() - begin)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        limit = self.max_upload_bytes if scope["path"] in UPLOAD_PATHS else self.max_body_bytes
        refusal = self._refusal(headers, limit) or _zero_byte(scope)
        if refusal is not None:
            await problems.respond(refusal)(scope, receive, send)
            return
        await self.app(scope, _limited(receive, limit), send)

    def _refusal(self, headers: Mapping[str, str], limit: int) -> Problem | None:
        host, origin = headers.get("host", ""), headers.get("origin", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self.hosts and name not in self.hosts:
            return _forbidden(
                f"This gateway does not answer as {name!r}.", remedy="Set MILLRACE_GATEWAY_HOSTS to the names it has."
            )
        if origin and urlsplit(origin).netloc != host:
            return _forbidden(f"Pages of {origin} may not call this gateway.", remedy="Call it from its own pages.")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            return problems.too_large(limit)
        return None


class _Answer:
    """Passes the answer on and remembers its status, 0 until it starts, and whether it has ended."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0
        self.is_complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.send(message)
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)


def _limited(receive: Receive, limit: int) -> Receive:
    """Count the body's bytes as they come: a length that was announced may be absent or a lie."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, problems.too_large(limit).detail)
        return message

    return counted


def _allowed_hosts(settings: GatewaySettings) -> frozenset[str]:
    named = frozenset(name.strip() for name in settings.gateway_hosts.split(",") if name.strip())
    if named:
        return named
    return frozenset({"localhost", "127.0.0.1", "::1"}) if _is_loopback(settings.gateway_host) else frozenset()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zero_byte(scope: Scope) -> Problem | None:
    """PostgreSQL's text cannot hold a zero byte, so no id or filter has one."""
    if "\0" not in scope["path"] and b"%00" not in scope["query_string"]:
        return None
    return Problem(
        title="Unprocessable Entity", status=422, detail="The URL holds a zero byte.", code="invalid_input",
        remedy="Leave out %00.",
    )  # fmt: skip


def _forbidden(detail: str, *, remedy: str) -> Problem:
    return Problem(title="Forbidden", status=403, detail=detail, code="unauthorized", remedy=remedy)
