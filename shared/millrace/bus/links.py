"""Opening and closing a broker connection so that a broker which has stopped answering holds nobody for ever."""

from __future__ import annotations

from typing import Any

import structlog
from kombu import Connection

log = structlog.get_logger(__name__)

SOCKET_LIMITS = {"read_timeout": 8, "write_timeout": 8}
"""Transport options of py-amqp, in seconds: how long a declaration waits for its answer."""

_READ_BYTES = 16_384


def establish(connection: Connection) -> None:
    """Connect, once: the callers have their own ways of trying again."""
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    socket_transport = getattr(connection.connection, "transport", None)
    if socket_transport is not None:
        # Without this py-amqp goes on reading for ever when read_timeout has passed.
        socket_transport.raise_on_initial_eintr = True
        _read_ahead(socket_transport)


def _read_ahead(socket_transport: Any) -> None:
    """py-amqp asks the socket nine times for a message, for each part of its frames; what comes beyond it keeps.

    Only for connections whose owner drains them himself: an event loop is not told of what has been read already.
    """
    receive = socket_transport._quick_recv
    socket_transport._quick_recv = lambda num_bytes: receive(max(num_bytes, _READ_BYTES))


def close(connection: Connection, *, is_broken: bool = False) -> None:
    """Close; a broken connection without saying goodbye, as its broker may never answer."""
    try:
        if is_broken:
            connection.collect()
        connection.release()
    except Exception as error:  # nothing more can be done for it
        log.debug("connection_close_failed", reason=type(error).__name__)
