"""Every error answer is a Problem (RFC 9457): what was wrong, where, and what to do. Never a traceback."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from millrace import errors
from millrace.contracts.faults import path_of, said
from millrace.contracts.ids import new_id
from millrace.contracts.views import Problem

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Translate all exceptions that a route may raise."""
    app.add_exception_handler(errors.MillraceError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _crashed)


def problem_of(error: errors.MillraceError) -> Problem:
    return Problem(
        title=_title(error.http_status),
        status=error.http_status,
        detail=error.message,
        code=error.code,
        remedy=error.remedy,
        field=error.field,
    )


def respond(problem: Problem) -> JSONResponse:
    headers = {"Retry-After": "1"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(
        problem.model_dump(mode="json"), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
    )


def too_large(limit: int) -> Problem:
    return Problem(
        title=_title(413),
        status=413,
        detail=f"The body is larger than {limit} bytes.",
        code=_MEANINGS[413][0],
        remedy=_MEANINGS[413][1],
    )


def unexpected(error: Exception, *, path: str) -> JSONResponse:
    """Answer a fault of ours: the log has the traceback under an id, the caller gets the id."""
    reference = new_id("err")
    log.error("request_crashed", reference=reference, path=path, exc_info=error)
    return respond(
        Problem(
            title=_title(500),
            status=500,
            detail=f"The gateway failed in a way it did not foresee (reference {reference}).",
            code="internal",
            remedy="Look for the reference in the gateway's log.",
        )
    )


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.MillraceError)
    return respond(problem_of(error))


async def _crashed(request: Request, error: Exception) -> JSONResponse:
    return unexpected(error, path=request.url.path)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own: no such route, wrong method, body too large or not readable."""
    assert isinstance(error, HTTPException)
    code, remedy = _MEANINGS.get(error.status_code, ("invalid_input" if error.status_code < 500 else "internal", ""))
    detail = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND and detail == "Not Found":
        detail = f"There is no {request.url.path}."
    response = respond(
        Problem(title=_title(error.status_code), status=error.status_code, detail=detail, code=code, remedy=remedy)
    )
    response.headers.update(error.headers or {})
    return response


async def _validation(_: Request, error: Exception) -> JSONResponse:
    """A body, a query or a path that does not fit its model: say the first fault by the field's path."""
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    where, *path = [str(part) for part in path_of(fault)]
    if fault["type"] == "json_invalid":
        reason = fault.get("ctx", {}).get("error", "not JSON")
        return respond(_invalid(f"The body is not valid JSON: {reason} at character {path[0] if path else 0}."))
    if where == "body" and not path:
        return respond(_invalid("Expected a JSON object as the body.", remedy="Send Content-Type: application/json."))
    if fault["type"] == "extra_forbidden":
        return respond(
            _invalid("This field is unknown.", field=".".join(path), remedy="Remove it or correct its name.")
        )
    return respond(_invalid(said(fault), field=".".join(path) or where))


def _invalid(detail: str, *, field: str = "", remedy: str = "") -> Problem:
    return Problem(title=_title(422), status=422, detail=detail, code="invalid_input", field=field, remedy=remedy)


def _title(status: int) -> str:
    return HTTPStatus(status).phrase


_MEANINGS: dict[int, tuple[str, str]] = {
    400: ("invalid_input", "Send valid JSON: not nested by the hundred, no numbers of thousands of digits."),
    404: ("not_found", "GET /openapi.json lists what there is."),
    405: ("wrong_method", "GET /openapi.json lists the methods of each path."),
    413: ("too_large", "Send less, or raise MILLRACE_GATEWAY_MAX_BODY_BYTES or MILLRACE_GATEWAY_MAX_UPLOAD_BYTES."),
}
