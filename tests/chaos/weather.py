"""What both storms do and demand, and the record of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import row, update_results
from chaos.hosts import Target, running_target
from chaos.storm import CALM_S, Storm
from millrace import Client
from millrace.settings import Settings
from millrace.testing.checker import check

KILLS = int(os.environ.get("CHAOS_KILLS", "200"))
LIMIT_S = float(os.environ.get("CHAOS_LIMIT_S", "270"))
SEED = int(os.environ.get("CHAOS_SEED", str(int(time.time()) % 1_000_000)))
IS_RECORDED = os.environ.get("CHAOS_RECORD", "") == "1"
RESTARTS_EACH = max(3, KILLS // 67)
POWER_LOSSES = max(2, KILLS // 100)
REST_S = 30.0
"""How long queues may take to be empty after the last run's end."""


def storm_over(settings: Settings, *, data: Path, servers: Mapping[str, Callable[[], None]] | None = None) -> None:
    """Rage, wait for calm, and look whether all is well."""
    print(f"chaos: CHAOS_SEED={SEED} make chaos KILLS={KILLS} LIMIT_S={LIMIT_S:g}")
    began = time.monotonic()
    with running_target(settings) as target, _telling_crashes(target):
        storm = Storm(target, seed=SEED, data=data, servers=servers)
        storm.rage(num_kills=KILLS, restarts_each=RESTARTS_EACH, num_power_losses=POWER_LOSSES, limit_s=LIMIT_S)
        raged_s = time.monotonic() - began
        ends = storm.users.ends(limit_s=CALM_S)
        calmed_s = time.monotonic() - began - raged_s
        wrong = {r: _why(target, r) for r, status in ends.items() if status not in storm.users.runs[r]}
        found = check(settings, accepted=ends, patience_s=REST_S)
    print(f"killed {dict(storm.kills)}, hit {dict(storm.hits)}, restarted {dict(storm.restarts)}")
    print(
        f"users {dict(storm.users.wishes)}, runs {dict(Counter(ends.values()))}; {raged_s:.0f} s, then {calmed_s:.0f} s"
    )
    if IS_RECORDED:
        case = "servers" if servers else "embedded"
        _record(case, storm, ends, num_violations=len(found), duration_s=time.monotonic() - began)
    assert wrong == {}, wrong
    assert found == [], "\n".join(map(str, found))
    orphans = target.orphans()
    assert orphans == [], orphans
    assert storm.kills.total() >= KILLS, "the storm was too slow to mean anything"
    assert all(storm.restarts[name] >= RESTARTS_EACH for name in servers or {})


@contextmanager
def _telling_crashes(target: Target) -> Iterator[None]:
    """If the block fails, print what processes logged with a traceback: the logs go with the factory."""
    try:
        yield
    except BaseException:
        for home in {target.settings.home, target.second_home}:
            for path in sorted(home.glob("logs/*.log*")):
                crashed = [line for line in path.read_text(errors="replace").splitlines() if "Traceback" in line]
                print(*(f"{path.name}: {line[-4000:]}" for line in crashed[-5:]), sep="\n")
        raise


def _why(target: Target, run_id: str) -> list[str]:
    """How a run ended that should not have ended so, and what its attempts said."""
    with Client(target.urls[0]) as client:
        run = client.run(run_id)
        return [
            f"{run.view.status}: {run.view.error}",
            *(
                f"{e.type} {e.data.get('stage')} {e.data.get('holder')}: {e.data['error']}"
                for e in run.events()
                if "error" in e.data
            ),
        ]


def _record(case: str, storm: Storm, ends: Mapping[str, str], *, num_violations: int, duration_s: float) -> None:
    """Put this storm's figures in the place of the last one's on the same stack."""
    counts = {
        **{f"killed_{kind}": n for kind, n in sorted(storm.kills.items())},
        **{f"restarted_{name}": n for name, n in sorted(storm.restarts.items())},
        **{f"hit_by_{name}": n for name, n in sorted(storm.hits.items())},
        **{f"runs_{status}": n for status, n in sorted(Counter(ends.values()).items())},
        "violations": num_violations,
        "seed": storm.seed,
    }
    rows = [row(case, metric, "count", [float(n)]) for metric, n in counts.items()]
    update_results("chaos", [*rows, row(case, "duration", "s", [duration_s])])
