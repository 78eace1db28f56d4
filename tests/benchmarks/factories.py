"""The two stacks that benchmarks run on, each with the processes whose CPU counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil

from benchmarks.harness import cpu_seconds
from millrace.testing.factory import Factory, running_factory
from servers import postgres, rabbitmq, radosgw

SERVERS = {"beam.smp": "rabbitmq", "postgres": "postgres"}
"""Programs of the servers whose CPU counts, and what they are."""

SERVICES = ("conductor", "gateway", "worker")


@contextmanager
def embedded(**environment: str) -> Iterator[Factory]:
    """A factory without any server."""
    with tempfile.TemporaryDirectory() as folder, running_factory(_settings(folder, environment)) as factory:
        yield factory


@contextmanager
def production(*, s3: bool = True, **environment: str) -> Iterator[Factory]:
    """A factory on RabbitMQ and PostgreSQL (with its fsync), with Ceph's S3 gateway or a local directory as its store."""
    with (
        tempfile.TemporaryDirectory() as folder,
        rabbitmq.run() as broker,
        postgres.run(is_durable=True) as database,
        radosgw.run() if s3 else nullcontext() as store,
    ):
        servers = {"MILLRACE_BROKER_URL": broker.new_vhost(), "MILLRACE_DATABASE_URL": database.new_database()}
        if store is not None:
            servers |= {
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


def cpu_by_group(factory: Factory) -> dict[str, float]:
    """CPU seconds so far of each service with its children, of broker and database, and of the supervisor (`other`)."""
    services = {name: cpu_seconds([pid_of(factory, name)]) for name in SERVICES}
    servers = dict.fromkeys(SERVERS.values(), 0.0)
    for process in psutil.Process().children(recursive=True):
        if process.name() in SERVERS and process.parent().name() not in SERVERS:
            servers[SERVERS[process.name()]] += cpu_seconds([process.pid])
    return {**services, **servers}


def pid_of(factory: Factory, service: str) -> int:
    """The process of a service."""
    for process in psutil.Process(factory.pid).children():
        if f"millrace: {service}" in " ".join(process.cmdline()):
            return int(process.pid)
    raise LookupError(f"no {service} among the factory's processes")


def _settings(folder: str, environment: dict[str, str]) -> dict[str, str]:
    home = str(Path(folder) / "home")
    return {"MILLRACE_HOME": home, "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0", **environment}
