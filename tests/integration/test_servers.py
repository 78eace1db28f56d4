"""The tests' own servers: they answer, come back, and leave nothing behind."""

from __future__ import annotations

from kombu import Connection

from servers.rabbitmq import RabbitMQ


def _connects(url: str) -> bool:
    with Connection(url) as connection:
        connection.connect()
        return bool(connection.connected)


def test_rabbitmq_accepts_connections(rabbitmq_url: str) -> None:
    assert _connects(rabbitmq_url)


def test_rabbitmq_gives_each_test_a_vhost(rabbitmq: RabbitMQ) -> None:
    first, second = rabbitmq.new_vhost(), rabbitmq.new_vhost()
    assert first != second
    assert _connects(first)
    assert _connects(second)
