"""What Millrace costs while it does nothing: an idle embedded factory that serves a model, and the first word of the command."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.factories import embedded
from benchmarks.harness import Row, cpu_seconds, memory_bytes, row, write_results
from millrace import Pipeline

EXAMPLE = Path(__file__).parents[2] / "examples" / "tabular"
WARM_S = 2.0
SETTLE_S = 15.0
IDLE_S = 30.0
REPEATS = 15


def idle_factory() -> list[Row]:
    """Proportional set size and CPU of all its processes, a model loaded, warm children gone."""
    if not list(EXAMPLE.glob("data/*.parquet")):
        subprocess.run([sys.executable, str(EXAMPLE / "make_data.py")], check=True)
    with embedded(MILLRACE_WARM_S=str(WARM_S)) as factory:
        factory.client.submit(Pipeline.load(EXAMPLE / "pipeline.yaml")).wait()
        time.sleep(SETTLE_S)
        shares, sizes = [], []
        for _ in range(3):
            cpu = cpu_seconds([factory.pid])
            time.sleep(IDLE_S / 3)
            shares.append(100 * (cpu_seconds([factory.pid]) - cpu) / (IDLE_S / 3))
            sizes.append(memory_bytes(factory.pid) / 1e6)
        return [
            row("idle_embedded", "memory_pss", "MB", sizes),
            row("idle_embedded", "cpu_share", "% of a core", shares),
        ]


def start() -> list[Row]:
    """Milliseconds from the command to its end, beside an interpreter that does nothing."""
    cases = {
        "help": ["-m", "millrace.cli", "--help"],
        "import": ["-c", "import millrace"],
        "interpreter": ["-c", "pass"],
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(REPEATS):
        for name, arguments in cases.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(1000 * (time.perf_counter() - begin))
    return [
        row(f"start_{name}", "wall", "ms", times, subject="python" if name == "interpreter" else "millrace")
        for name, times in taken.items()
    ]


if __name__ == "__main__":
    write_results("footprint", start() + idle_factory())
