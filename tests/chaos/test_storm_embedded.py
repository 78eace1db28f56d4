"""Kill anything, without servers: every accepted run ends well, once, and nothing is left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.storm import CALM_S
from chaos.weather import LIMIT_S, storm_over
from millrace.settings import Settings

pytestmark = pytest.mark.timeout(LIMIT_S + CALM_S + 240)


def test_nothing_is_lost_without_servers(embedded_settings: Settings, rows: Path) -> None:
    storm_over(embedded_settings, data=rows)
