"""The tests' own servers: they answer, come back, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
from kombu import Connection

from millrace.settings import Settings
from servers.postgres import Postgres
from servers.process import answers
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


START_AND_WAIT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from servers import postgres
with postgres.run() as cluster:
    print(cluster.folder, cluster.port, flush=True)
    time.sleep(60)
"""


def test_servers_and_their_files_go_when_the_tests_are_killed(postgres: Postgres) -> None:
    command = [sys.executable, "-c", START_AND_WAIT, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        folder, port = tests.stdout.readline().split()
        assert answers(int(port))
        tests.kill()
    deadline = time.monotonic() + 15
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()
    assert not answers(int(port))


def test_production_settings_differ_each_time_only_in_names(production_settings: Settings) -> None:
    assert _connects(production_settings.broker)
    with psycopg.connect(production_settings.database) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not production_settings.is_embedded
