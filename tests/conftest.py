"""Fixtures for all tests: a home of their own, and real servers that start when the first test needs one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from millrace.settings import Settings
from servers import postgres as postgres_server
from servers import rabbitmq as rabbitmq_server
from servers import radosgw as radosgw_server
from servers.postgres import Postgres
from servers.process import MissingProgram
from servers.rabbitmq import RabbitMQ
from servers.radosgw import RadosGW

S = TypeVar("S")
SERVER_FIXTURES = {"rabbitmq", "postgres", "s3_server"}


def pytest_configure(config: pytest.Config) -> None:
    """Forget the caller's own factory: no test may read or write it."""
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["MILLRACE_HOME"] = str(tmp_path_factory.mktemp("home"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that `-m "not servers"` is a fast run without any."""
    for item in items:
        if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A private RabbitMQ node; it may be stopped, started and cut off."""
    with _started(rabbitmq_server.run) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_url(rabbitmq: RabbitMQ) -> str:
    """The default virtual host, which all tests share."""
    return rabbitmq.url


@pytest.fixture
def rabbitmq_vhost_url(rabbitmq: RabbitMQ) -> str:
    """A virtual host of the test's own."""
    return rabbitmq.new_vhost()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL cluster; it may be stopped, started and cut off."""
    with _started(postgres_server.run) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """The maintenance database; tests make their own beside it."""
    return postgres.url


@pytest.fixture
def postgres_database_url(postgres: Postgres) -> str:
    """An empty database of the test's own."""
    return postgres.new_database()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[RadosGW]:
    """A private S3 service; its gateway may be stopped and started."""
    with _started(radosgw_server.run) as server:
        yield server


@pytest.fixture
def s3_settings(s3_server: RadosGW, tmp_path: Path) -> Settings:
    """Settings with a bucket name of the test's own; the store makes the bucket when it is first used."""
    return Settings(home=tmp_path / "home", **_s3_fields(s3_server))


@pytest.fixture
def embedded_settings(tmp_path: Path) -> Settings:
    """A factory without servers, in a home of the test's own."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def production_settings(rabbitmq: RabbitMQ, postgres: Postgres, s3_server: RadosGW, tmp_path: Path) -> Settings:
    """A factory on RabbitMQ, PostgreSQL and S3, with a virtual host, database and bucket of the test's own."""
    return Settings(
        home=tmp_path / "home",
        broker_url=rabbitmq.new_vhost(),
        database_url=postgres.new_database(),
        **_s3_fields(s3_server),
    )


@pytest.fixture(params=["embedded", pytest.param("production", marks=pytest.mark.servers)])
def stack_settings(request: pytest.FixtureRequest) -> Settings:
    """Each of the two: what passes on one must pass on the other."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(settings, Settings)
    return settings


@pytest.fixture(scope="session")
def stack_settings_of(request: pytest.FixtureRequest) -> Callable[[str, Path], Settings]:
    """Settings of a stack by its name, for factories that outlive one test."""

    def make(stack: str, home: Path) -> Settings:
        if stack == "embedded":
            return Settings(home=home)
        broker, database, store = (request.getfixturevalue(name) for name in ("rabbitmq", "postgres", "s3_server"))
        return Settings(
            home=home, broker_url=broker.new_vhost(), database_url=database.new_database(), **_s3_fields(store)
        )

    return make


def _s3_fields(server: RadosGW) -> dict[str, Any]:
    return {
        "store_url": f"s3+http://{server.endpoint}/test-{uuid.uuid4().hex[:12]}",
        "store_access_key": server.access_key,
        "store_secret_key": SecretStr(server.secret_key),
    }


@contextlib.contextmanager
def _started(run: Callable[[], AbstractContextManager[S]]) -> Iterator[S]:
    # A laptop without servers still tests the rest; in CI a missing server is a fault, not a reason to pass.
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(run())
        except MissingProgram as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        yield server
