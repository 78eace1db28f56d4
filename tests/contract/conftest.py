"""What each conformance suite runs over: here the two brokers that every claim about the bus must hold for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
