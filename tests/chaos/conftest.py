"""Servers that are restarted, and a table to learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bad_inputs import ROWS
from servers.postgres import Postgres
from servers.rabbitmq import RabbitMQ
from servers.radosgw import RadosGW


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that a small model learns in a moment."""
    path = tmp_path_factory.mktemp("chaos") / "rows.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
def restarts(rabbitmq: RabbitMQ, postgres: Postgres, s3_server: RadosGW) -> dict[str, Callable[[], None]]:
    """Each server, stopped as power loss stops it and started again on its data."""

    def again(server: RabbitMQ | Postgres | RadosGW) -> Callable[[], None]:
        def restart() -> None:
            server.stop()
            server.start()

        return restart

    return {"rabbitmq": again(rabbitmq), "postgres": again(postgres), "s3": again(s3_server)}
