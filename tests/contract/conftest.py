"""What each conformance suite runs over: the brokers that every claim about the bus must hold for, and
the ledger's databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from folder import Folder
from millrace.bus import Bus
from millrace.bus.connect import connect


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.servers)])
def bus_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty broker of the test's own."""
    if request.param == "embedded":
        return f"embedded://{tmp_path}/bus with a space"
    return str(request.getfixturevalue("rabbitmq_vhost_url"))


@pytest.fixture
def bus(bus_url: str) -> Iterator[Bus]:
    bus = connect(bus_url)
    yield bus
    bus.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger's database."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'ledger.sqlite'}"
    return str(request.getfixturevalue("postgres_database_url"))


@pytest.fixture
def folders(ledger_url: str) -> Iterator[Callable[[], Folder]]:
    made: list[Folder] = []

    def make() -> Folder:
        made.append(Folder(ledger_url))
        return made[-1]

    yield make
    for folder in made:
        folder.ledger.close()


@pytest.fixture
def folder(folders: Callable[[], Folder]) -> Folder:
    return folders()
