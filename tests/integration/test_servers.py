"""The tests' own servers: they answer, come back, and leave nothing behind."""

from __future__ import annotations

import psycopg
from kombu import Connection

from millrace.settings import Settings
from servers.postgres import Postgres
from servers.rabbitmq import RabbitMQ


def _connects(url: str) -> bool:
    with Connection(url) as connection:
        connection.connect()
        return bool(connection.connected)


def test_rabbitmq_gives_each_test_a_vhost(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    first, second = rabbitmq.new_vhost(), rabbitmq.new_vhost()
    assert len({first, second, rabbitmq_url}) == 3
    assert all(_connects(url) for url in (first, second, rabbitmq_url))


def test_rabbitmq_comes_back_with_its_vhosts(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.new_vhost()
    rabbitmq.stop()
    rabbitmq.start()
    assert _connects(url)


def test_postgres_comes_back_with_its_rows(postgres: Postgres) -> None:
    url = postgres.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE facts AS SELECT 42 AS answer")
    postgres.stop()
    postgres.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM facts").fetchone() == (42,)


def test_production_settings_differ_each_time_only_in_names(production_settings: Settings) -> None:
    assert _connects(production_settings.broker)
    with psycopg.connect(production_settings.database) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not production_settings.is_embedded
