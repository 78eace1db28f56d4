"""Fixtures for all tests: a home of their own, and real servers that start when the first test needs one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

from servers import rabbitmq as rabbitmq_server
from servers.process import MissingProgram
from servers.rabbitmq import RabbitMQ

S = TypeVar("S")
SERVER_FIXTURES = {"rabbitmq"}


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
