"""The one error tree. Each class says whether another attempt can help, and which exit code a command ends with.

MillraceError
├── InvalidInput            the caller's data, spec or arguments are wrong
│   ├── InvalidSpec         a pipeline or its parameters
│   ├── InvalidData         a data set, a row, a label
│   └── NotFound            a run, model, artifact, endpoint or stage kind by that name
├── Conflict                the state does not allow this (already finished, name taken, digest differs)
│   └── Stale               another holder has this attempt's task: whatever it does now is refused
├── Unauthorized            credentials are missing or were refused
├── Unavailable             a broker, store, database or server did not answer (retryable)
│   └── DeadlineExceeded    something took longer than its limit (retryable)
├── ResourceExhausted       memory, disk or device memory ran out
├── Corrupt                 bytes differ from their digest (retryable: another read may help)
├── StageFailed             a stage's own code raised
├── TimedOut                an attempt took longer than its stage's time limit (retryable)
├── RunFailed               what a caller who waits for a run receives
└── WorkerLost              the child or its worker died without a word (retryable)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class MillraceError(Exception):
    """Base of all errors that Millrace raises on purpose.

    Attributes:
        message: What was expected, what was found.
        remedy: What the reader can do about it; may be empty.
        field: Path of the field at fault, such as ``stages.train.with.learning_rate``; may be empty.
        context: Identifiers and values, JSON-compatible.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "", field: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.field = field
        self.context = context

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        todo = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{todo}"


class InvalidInput(MillraceError):
    code = "invalid_input"
    http_status = 422
    exit_code = 2


class InvalidSpec(InvalidInput):
    code = "invalid_spec"


class InvalidData(InvalidInput):
    code = "invalid_data"


class NotFound(InvalidInput):
    code = "not_found"
    http_status = 404


class Conflict(MillraceError):
    code = "conflict"
    http_status = 409


class Stale(Conflict):
    code = "stale"


class Unauthorized(MillraceError):
    code = "unauthorized"
    http_status = 401
    exit_code = 3


class Unavailable(MillraceError):
    code = "unavailable"
    retryable = True
    http_status = 503
    exit_code = 4


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    http_status = 504


class ResourceExhausted(MillraceError):
    code = "resource_exhausted"
    http_status = 507
    exit_code = 5


class Corrupt(MillraceError):
    code = "corrupt"
    retryable = True


class StageFailed(MillraceError):
    code = "stage_failed"


class TimedOut(MillraceError):
    code = "timed_out"
    retryable = True


class WorkerLost(MillraceError):
    code = "worker_lost"
    retryable = True


class RunFailed(MillraceError):
    """A run ended otherwise than succeeded.

    Attributes:
        run_id: The run.
        stage: The stage that ended it; empty if none did (a cancelled run).
        status: ``failed``, ``rejected`` or ``cancelled``.
        cause: Code of the underlying error, such as ``invalid_data``.
    """

    code = "run_failed"

    def __init__(
        self, message: str, *, run_id: str, status: str, stage: str = "", cause: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy, run_id=run_id, status=status, stage=stage, cause=cause)
        self.run_id = run_id
        self.status = status
        self.stage = stage
        self.cause = cause


def _classes(root: type[MillraceError]) -> Iterable[type[MillraceError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def to_payload(error: MillraceError) -> dict[str, Any]:
    """Encode an error for an event or an HTTP answer; with the digest of the artifact whose bytes it missed, if it did."""
    lost = error.context.get("artifact")
    return {
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "field": error.field,
        "retryable": error.retryable,
        **({"digest": lost} if lost else {}),
    }


OF_REQUESTS = ("too_large", "wrong_method")
"""Codes of HTTP servers that say what is wrong with a request as such; to who sent it, it is invalid input."""


def from_payload(payload: dict[str, Any]) -> MillraceError:
    """Rebuild the error that another process encoded; an unknown code becomes a plain MillraceError."""
    code = str(payload.get("code", ""))
    if code in OF_REQUESTS:
        code = InvalidInput.code
    message = str(payload.get("message", "")) or "The server gave no message."
    remedy, field = str(payload.get("remedy", "")), str(payload.get("field", ""))
    for cls in _classes(MillraceError):
        if cls.code == code and cls is not RunFailed:
            return cls(message, remedy=remedy, field=field)
    return MillraceError(message, remedy=remedy, field=field)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest valid name, or a list of all when none is close."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}? Valid: {', '.join(names)}."
    return f"valid: {', '.join(names) or 'none'}."
