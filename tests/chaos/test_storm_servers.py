"""Kill anything, on servers that are restarted: every accepted run ends well, once, and nothing is left over.

`make chaos` rages for longer; both print the seed that repeats the order of what is hit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.storm import CALM_S
from chaos.weather import LIMIT_S, storm_over
from millrace.settings import Settings

pytestmark = pytest.mark.timeout(LIMIT_S + CALM_S + 240)


def test_nothing_is_lost_on_servers_that_are_restarted(
    production_settings: Settings, restarts: dict[str, Callable[[], None]], rows: Path
) -> None:
    storm_over(production_settings, data=rows, servers=restarts)
