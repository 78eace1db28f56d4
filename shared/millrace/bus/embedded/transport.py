"""The transport as kombu knows it, under the alias `embedded`; its URL is `embedded:///absolute/directory`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from amqp import exceptions as amqp
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import base as kombu_base

from millrace.bus.embedded.channel import Channel
from millrace.bus.embedded.connection import Connection

ALIAS = "embedded"


class Transport(kombu_base.Transport):  # type: ignore[misc]  # kombu ships no types
    """Queues in SQLite files. Celery drains it in its blocking loop, as there is no socket to watch."""

    connection_errors = (amqp.ConnectionError, sqlite3.Error, OSError)
    channel_errors = (amqp.ChannelError,)
    recoverable_connection_errors = (amqp.RecoverableConnectionError, sqlite3.OperationalError, OSError)
    recoverable_channel_errors = (amqp.RecoverableChannelError,)

    driver_type = "embedded"
    driver_name = "sqlite3"

    implements = kombu_base.Transport.implements.extend(
        asynchronous=False,
        heartbeats=False,
        batch_publish=True,
        exchange_type=frozenset({"direct", "topic", "fanout"}),
    )

    def driver_version(self) -> str:
        return sqlite3.sqlite_version

    def establish_connection(self) -> Connection:
        return Connection(self.client, Path("/", self.client.virtual_host))

    def close_connection(self, connection: Connection) -> None:
        connection.close()
        connection.client = None

    def create_channel(self, connection: Connection) -> Channel:
        channel = Channel(connection)
        connection.channels.append(channel)
        return channel

    def close_channel(self, channel: Channel) -> None:
        channel.close()

    def drain_events(self, connection: Connection, **kwargs: Any) -> None:
        connection.drain_events(**kwargs)

    def verify_connection(self, connection: Connection) -> bool:
        return connection.connected


def register() -> None:
    """Make `embedded://` known to kombu and Celery in this process."""
    TRANSPORT_ALIASES.setdefault(ALIAS, f"{__name__}:Transport")
