"""The two stacks that benchmarks run on, each with the processes whose CPU counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from millrace.testing.factory import Factory, running_factory
from servers import postgres, rabbitmq, radosgw

SERVERS = ("beam.smp", "postgres")


@contextmanager
def embedded(**environment: str) -> Iterator[Factory]:
    """A factory without any server."""
    with tempfile.TemporaryDirectory() as folder, running_factory(_settings(folder, environment)) as factory:
        yield factory


@contextmanager
def production(**environment: str) -> Iterator[Factory]:
    """A factory on RabbitMQ, PostgreSQL (with its fsync) and Ceph's S3 gateway."""
    with (
        tempfile.TemporaryDirectory() as folder,
        rabbitmq.run() as broker,
        postgres.run(is_durable=True) as database,
        radosgw.run() as store,
    ):
        servers = {
            "MILLRACE_BROKER_URL": broker.new_vhost(),
            "MILLRACE_DATABASE_URL": database.new_database(),
            "MILLRACE_STORE_URL": f"s3+http://{store.endpoint}/bench",
            "MILLRACE_STORE_ACCESS_KEY": store.access_key,
            "MILLRACE_STORE_SECRET_KEY": store.secret_key,
        }
        with running_factory(_settings(folder, {**servers, **environment})) as factory:
            yield factory


def pids(factory: Factory) -> list[int]:
    """The supervisor, and the broker and database that work for every step; the store's daemons have a life of their own."""
    children = psutil.Process().children(recursive=True)
    return [factory.pid, *(p.pid for p in children if p.name() in SERVERS)]


def _settings(folder: str, environment: dict[str, str]) -> dict[str, str]:
    home = str(Path(folder) / "home")
    return {"MILLRACE_HOME": home, "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0", **environment}
