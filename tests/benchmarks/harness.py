"""What every benchmark shares: the form of a result, the machine it was measured on, and where results go."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"

_LOOKS = 10
"""How often a family of processes is looked at until it stays the same for the time of a look."""

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure of one subject."""

    case: str
    metric: str
    unit: str
    subject: str
    median: float
    min: float
    max: float
    runs: int


def row(case: str, metric: str, unit: str, values: Sequence[float], *, subject: str = "millrace") -> Row:
    """Summarize repeated measurements."""
    return Row(case, metric, unit, subject, statistics.median(values), min(values), max(values), len(values))


def write_results(name: str, rows: Sequence[Row], *, notes: Mapping[str, object] | None = None) -> Path:
    """Write `results/<name>.json` and print its rows. Notes are what explains them, as JSON."""
    document = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [asdict(r) for r in rows],
        **({"notes": dict(notes)} if notes else {}),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print_rows(rows)
    return path


def update_results(name: str, rows: Sequence[Row]) -> Path:
    """Write the rows in the place of their cases' earlier ones; what an earlier run measured of other cases stays."""
    measured = {r.case for r in rows}
    earlier = read_rows(name) if (RESULTS / f"{name}.json").exists() else []
    return write_results(name, [*(r for r in earlier if r.case not in measured), *rows])


def read_rows(name: str) -> list[Row]:
    """The rows that `write_results` wrote last."""
    document = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return [Row(**fields) for fields in document["rows"]]


def print_rows(rows: Sequence[Row]) -> None:
    for r in rows:
        print(
            f"{r.case:<40} {r.metric:<24} {r.subject:<22} {r.median:>12.4g} {r.unit}  ({r.min:.4g} to {r.max:.4g}, {r.runs} runs)"
        )


def machine() -> dict[str, object]:
    """The machine, in words that let one judge a figure."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    return {
        "cpu": facts.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "flags": [f for f in FLAGS if f in facts.get("flags", "").split()],
        "device": "cpu",
        "load": round(os.getloadavg()[0], 2),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of all values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of processes and of all their descendants, those that have ended included.

    A parent has the time of the children that it waited for: of one that ends between two looks the time would be missed or
    counted twice, so all are looked at again. Not seen is who outlives its parent and leaves the family, and who ends as
    the child of a process that ignores SIGCHLD.
    """
    for _ in range(_LOOKS):
        family = [process for pid in pids for process in _family(pid)]
        total, is_whole = 0.0, True
        for process in reversed(family):  # children before their parents
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                is_whole = False
                continue
            total += times.user + times.system + times.children_user + times.children_system
        if is_whole and all(process.is_running() for process in family):
            break
    return total


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process and of its descendants: shared pages are divided among those who share them."""
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [root, *root.children(recursive=True)]
