"""The cache: an unchanged rerun of a thousand tasks, and a hundred identical submissions at once.

python -m benchmarks.bench_cache [--runs N] [--database URL]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cached_jobs as jobs
from benchmarks.harness import Row, row, write_results
from millrace import Client, stages
from millrace.settings import Settings
from millrace.testing.factory import environment_of, running_factory

NUM_TASKS = 1000
NUM_SUBMISSIONS = 100
LIMIT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--database", default="", help="postgresql://...; SQLite unless given.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), database_url=arguments.database)
        with running_factory(environment_of(settings)) as factory:
            suffix = "_postgres" if arguments.database else ""
            rows = [
                *rerun(factory.client, arguments.runs, f"rerun_{NUM_TASKS}_tasks{suffix}"),
                *coalesce(factory.client, arguments.runs, f"coalesce_{NUM_SUBMISSIONS}{suffix}"),
            ]
    write_results("cache", rows)


def rerun(client: Client, num_runs: int, case: str) -> list[Row]:
    """Seconds from submission to the end of a run whose every task was computed before, and how many of them hit."""
    job = stages.Function(jobs.sum_of_parts, params={"count": NUM_TASKS})
    began = time.perf_counter()
    client.submit(job).wait(timeout_s=LIMIT_S)
    first_s = time.perf_counter() - began
    seconds, shares = [], []
    for _ in range(num_runs):
        began = time.perf_counter()
        view = client.submit(job).wait(timeout_s=LIMIT_S)
        seconds.append(time.perf_counter() - began)
        (stage,) = view.stages
        shares.append(stage.num_cached / (stage.num_cached + stage.attempts))
    return [
        row(case, "first_run", "s", [first_s]),
        row(case, "seconds", "s", seconds),
        row(case, "hit_share", "share", shares),
    ]


def coalesce(client: Client, num_runs: int, case: str) -> list[Row]:
    """How many attempts identical submissions cost together."""
    attempts, seconds = [], []
    for number in range(num_runs):
        job = stages.Function(jobs.slow, params={"seconds": 2.0 + number / 1000})
        began = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            runs = list(pool.map(lambda _, job=job: client.submit(job), range(NUM_SUBMISSIONS)))
        views = [run.wait(timeout_s=LIMIT_S) for run in runs]
        seconds.append(time.perf_counter() - began)
        attempts.append(float(sum(view.stages[0].attempts for view in views)))
    return [row(case, "attempts", "attempts", attempts), row(case, "seconds", "s", seconds)]


if __name__ == "__main__":
    main()
