"""Kill anything: whatever is killed while runs come in, every accepted run ends well, once, and nothing is left over.

`make chaos` rages for longer; both print the seed that repeats the order of what was hit.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import victims
from chaos.conftest import Target, running_target
from chaos.storm import Storm
from millrace.settings import Settings
from millrace.testing.checker import check

KILLS = int(os.environ.get("CHAOS_KILLS", "200"))
LIMIT_S = float(os.environ.get("CHAOS_LIMIT_S", "240"))
SEED = int(os.environ.get("CHAOS_SEED", str(int(time.time()) % 1_000_000)))

pytestmark = pytest.mark.timeout(LIMIT_S + 240)


def weather(target: Target, storm: Storm, *, num_kills: int, restarts_each: int) -> None:
    """Rage, wait for calm, and look whether all is well."""
    print(f"chaos seed {storm.seed}: CHAOS_SEED={storm.seed} make chaos")
    storm.rage(num_kills=num_kills, restarts_each=restarts_each, pause_s=0.6, limit_s=LIMIT_S)
    statuses = storm.ends()
    print(f"killed {dict(storm.kills)}; runs {dict(Counter(statuses.values()))}")
    assert set(statuses.values()) == {"succeeded"}, {r: s for r, s in statuses.items() if s != "succeeded"}
    assert storm.num_processes_killed >= num_kills, "the storm was too slow to mean anything"
    assert check(target.settings) == []


def test_nothing_is_lost_on_servers_that_are_restarted(
    production_settings: Settings, restarts: dict[str, Callable[[], None]], rows: Path
) -> None:
    with running_target(production_settings) as target:
        storm = target.storm(SEED, data=rows, restarts=restarts)
        weather(target, storm, num_kills=KILLS, restarts_each=3)
        assert all(storm.kills[name] >= 3 for name in restarts)
    assert victims.of_home(str(production_settings.home)) == []


def test_nothing_is_lost_without_servers(embedded_settings: Settings, rows: Path) -> None:
    with running_target(embedded_settings) as target:
        weather(target, target.storm(SEED, data=rows), num_kills=KILLS // 2, restarts_each=0)
    assert victims.of_home(str(embedded_settings.home)) == []
