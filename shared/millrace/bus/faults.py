"""What a driver's exception means to a user: which Millrace error it is, and what to do. Never with a password."""

from __future__ import annotations

import errno
import sqlite3
from urllib.parse import urlsplit

from amqp import exceptions as amqp
from kombu.exceptions import KombuError

from millrace import errors

FIELD = "MILLRACE_BROKER_URL"

DRIVER_ERRORS = (OSError, sqlite3.Error, amqp.AMQPError, KombuError, AttributeError)
"""What the transports raise when the broker is lost. kombu notes that py-amqp then sometimes raises AttributeError."""


def describe(url: str) -> str:
    """Name the broker without its password."""
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        return f"the embedded broker in {parts.path}"
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    return f"RabbitMQ at {parts.hostname or 'localhost'}:{port}"


def translate(error: BaseException, url: str) -> errors.MillraceError:
    """Return the error to raise in a driver's place."""
    if isinstance(error, errors.MillraceError):
        return error
    where = describe(url)
    broker = where[0].upper() + where[1:]
    if isinstance(error, (amqp.AccessRefused, amqp.NotAllowed)):
        return _refused(url)
    if isinstance(error, PermissionError):
        return errors.Unauthorized(
            f"{broker} cannot be opened: permission denied.", field=FIELD,
            remedy="Make the directory writable for this user, or name another.",
        )  # fmt: skip
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _sqlite_code(error) == sqlite3.SQLITE_FULL:
        return errors.ResourceExhausted(f"The disk of {where} is full.", remedy="Free some space; nothing was lost.")
    if _sqlite_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return errors.Corrupt(
            f"A file of {where} is damaged.", remedy="Move the directory away; unfinished runs are dispatched anew."
        )
    if isinstance(error, (amqp.PreconditionFailed, amqp.ResourceLocked)):
        return errors.Conflict(
            f"{broker} has a queue of that name with other arguments: {_short(error)}.",
            remedy="Another version of Millrace declared it: delete the queue when it is empty, or upgrade all services.",
        )
    starts = "Run `millrace doctor`" if url.startswith("embedded") else "Start it"
    return errors.Unavailable(
        f"{broker} does not answer: {_short(error)}.", remedy=f"{starts}, or correct {FIELD}.", field=FIELD
    )


def _refused(url: str) -> errors.Unauthorized:
    parts = urlsplit(url)
    user, vhost = parts.username or "guest", parts.path.removeprefix("/") or "/"
    return errors.Unauthorized(
        f"{describe(url)} refused user {user!r} at virtual host {vhost!r}.",
        remedy=f"Correct the user, the password or the virtual host in {FIELD}.",
        field=FIELD,
    )


def _sqlite_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", -1)) & 0xFF if isinstance(error, sqlite3.Error) else -1


def _short(error: BaseException) -> str:
    text = str(getattr(error, "reply_text", "") or getattr(error, "strerror", "") or error).strip().rstrip(".")
    return text.splitlines()[0] if text else type(error).__name__
