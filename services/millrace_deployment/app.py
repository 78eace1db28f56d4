"""The model server's routes, as a raw ASGI application."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from millrace import errors
from millrace.contracts.views import MAX_PREDICT_ROWS, EndpointView, GenerateRequest, PredictRequest
from millrace_deployment import http, inference_protocol
from millrace_deployment.http import Receive, Scope, Send
from millrace_deployment.measures import Measures
from millrace_deployment.registry import EndpointState, Registry, Rows
from millrace_deployment.texts import answer_text

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

_TEXT = CONTENT_TYPE_LATEST.encode()

log = structlog.get_logger()


class App:
    """Answers requests from the registry; holds no state of its own.

    Args:
        is_ready: Whether the desired endpoints have been read at least once.
        url: The base URL that the server is reached at.
    """

    def __init__(self, registry: Registry, measures: Measures, *, is_ready: Callable[[], bool], url: str) -> None:
        self._registry = registry
        self._measures = measures
        self._is_ready = is_ready
        self._url = url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except errors.MillraceError as error:
            await self._refuse(answer, error)
        except Exception:  # the last resort: whatever it is, the caller gets a problem and the log has the cause
            log.exception("request_failed", path=scope["path"])
            await self._refuse(
                answer, errors.MillraceError("The server failed.", remedy="The model server's log has the cause.")
            )

    async def _refuse(self, send: _Answer, error: errors.MillraceError) -> None:
        if not send.status:
            await http.send_problem(send, error)

    def methods(self, path: str) -> tuple[str, ...]:
        """Methods that a path takes; none if nothing is there."""
        parts = path.strip("/").split("/")
        return ("POST",) if self._post(parts) else ("GET", "HEAD") if self._get(parts) else ()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the route and answer.

        Raises:
            NotFound: No such path.
            InvalidInput: The path takes another method.
        """
        method, path = scope["method"], scope["path"]
        parts = path.strip("/").split("/")
        post = self._post(parts) if method == "POST" else None
        if post is not None:
            await post(scope, receive, send)
            return
        get = self._get(parts) if method in ("GET", "HEAD") else None
        if get is not None:
            value = get()
            await http.send_json(send, value, media_type=_TEXT if isinstance(value, bytes) else http.JSON)
            return
        methods = self.methods(path)
        if methods:
            raise _WrongMethod(f"{path!r} takes {' or '.join(methods)}, not {method}.")
        raise errors.NotFound(f"Nothing is at {path!r}.", remedy="See docs/http-api.md.")

    def _post(self, parts: list[str]) -> Handler | None:
        match parts:
            case ["v1", "endpoints", name, "predict"]:
                return partial(self._predict, name)
            case ["v1", "endpoints", name, "generate"]:
                return partial(self._generate, name)
            case ["v2", "models", name, "infer"]:
                return partial(self._infer, name)
        return None

    def _get(self, parts: list[str]) -> Callable[[], Any] | None:
        match parts:
            case ["v1", "endpoints"]:
                return self._list
            case ["v1", "endpoints", name]:
                return lambda: _view(self._registry.state(name), self._url)
            case ["v2"]:
                return lambda: {"name": "millrace", "version": "2", "extensions": []}
            case ["v2", "models", name]:
                return partial(self._metadata, name)
            case ["v2", "models", name, "ready"]:
                return lambda: {"name": name, "ready": self._registry.find(name) is not None}
            case ["healthz"] | ["v2", "health", "live"]:
                return lambda: {"live": True}
            case ["readyz"] | ["v2", "health", "ready"]:
                return self._ready
            case ["metrics"]:
                return self._metrics
        return None

    async def _predict(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await http.read_body(scope, receive)
        with self._measured(name, "predict"):
            rows = _rows(http.parse(body))
            served = self._registry.find(name)
            predictions = await served.predict(rows)
        release = served.desired.release
        await http.send_json(
            send, {"endpoint": name, "release": release, "model": served.digest, "predictions": predictions}
        )

    async def _infer(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await http.read_body(scope, receive)
        with self._measured(name, "infer"):
            request = http.validate(inference_protocol.InferRequest, http.parse(body))
            served = self._registry.find(name)
            inference_protocol.check_outputs(request, served.card)
            predictions = await served.predict(inference_protocol.decode(request, served.card))
        await http.send_json(
            send, inference_protocol.encode(request, name, served.desired.release, served.card, predictions)
        )

    async def _generate(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await http.read_body(scope, receive)
        with self._measured(name, "generate"):
            request = http.validate(GenerateRequest, http.parse(body))
            await answer_text(self._registry.find(name), request, receive, send)

    def _list(self) -> list[dict[str, Any]]:
        return [_view(state, self._url) for _, state in sorted(self._registry.states.items())]

    def _metadata(self, name: str) -> dict[str, Any]:
        served = self._registry.find(name)
        return inference_protocol.metadata(name, served.desired.release, served.card)

    def _ready(self) -> dict[str, bool]:
        if not self._is_ready():
            raise errors.Unavailable(
                "The desired endpoints have not been read yet.", remedy="Check that the object store answers."
            )
        return {"ready": True}

    def _metrics(self) -> bytes:
        for name, state in self._registry.states.items():
            self._measures.generation.labels(name).set(state.served.desired.generation if state.served else 0)
        return generate_latest(self._measures.registry)

    @contextmanager
    def _measured(self, name: str, route: str) -> Iterator[None]:
        """Count a request and its time. Names that are no endpoint share a label: callers choose names, memory is ours."""
        label = name if self._registry.generation(name) else "unknown"
        begin, status = time.perf_counter(), 200
        try:
            yield
        except BaseException as error:
            status = error.http_status if isinstance(error, errors.MillraceError) else 500
            raise
        finally:
            self._measures.requests.labels(label, route, str(status)).inc()
            self._measures.seconds.labels(label, route).observe(time.perf_counter() - begin)


class _WrongMethod(errors.InvalidInput):
    """The path is right, the method is not."""

    code = "wrong_method"
    http_status = 405


class _Answer:
    """Passes the answer on and remembers its status; 0 until it starts."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: http.Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _view(state: EndpointState, url: str) -> dict[str, Any]:
    return EndpointView(
        name=state.desired.name,
        generation=state.desired.generation,
        release=state.desired.release,
        model=state.desired.model,
        run_id=state.desired.run_id,
        status=state.status,
        urls=(url,) if state.served else (),
        error=state.error,
        updated_at=state.updated_at,
    ).model_dump(mode="json")


def _rows(value: Any) -> Rows:
    """The rows of a PredictRequest. Values are checked against the model's signature, once; pydantic would be twice."""
    if isinstance(value, dict) and value.keys() == {"rows"}:
        rows = value["rows"]
        if isinstance(rows, list) and 1 <= len(rows) <= MAX_PREDICT_ROWS:
            return rows
    return http.validate(PredictRequest, value).rows
