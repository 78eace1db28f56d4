"""Opening and closing a broker connection so that a broker which has stopped answering holds nobody for ever."""

from __future__ import annotations

import structlog
from kombu import Connection

log = structlog.get_logger(__name__)

SOCKET_LIMITS = {"read_timeout": 8, "write_timeout": 8}
"""Transport options of py-amqp, in seconds: how long a declaration waits for its answer."""


def establish(connection: Connection) -> None:
    """Connect, once: the callers have their own ways of trying again."""
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    socket_transport = getattr(connection.connection, "transport", None)
    if socket_transport is not None:
        # Without this py-amqp goes on reading for ever when read_timeout has passed.
        socket_transport.raise_on_initial_eintr = True


def close(connection: Connection, *, is_broken: bool = False) -> None:
    """Close; a broken connection without saying goodbye, as its broker may never answer."""
    try:
        if is_broken:
            connection.collect()
        connection.release()
    except Exception as error:  # nothing more can be done for it
        log.debug("connection_close_failed", reason=type(error).__name__)
