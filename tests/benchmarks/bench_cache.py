"""The cache: an unchanged rerun of a thousand tasks, and a hundred identical submissions at once.

python -m benchmarks.bench_cache [STACK...] [--repeat N] [--tasks N]
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import cached_jobs as jobs
from benchmarks.factories import embedded, production
from benchmarks.harness import Row, row, write_results
from millrace import Client, stages

NUM_TASKS = 1000
NUM_SUBMISSIONS = 100
LIMIT_S = 600.0

STACKS = {"embedded": embedded, "rabbitmq_postgres": lambda: production(s3=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stacks", nargs="*", metavar="STACK", help=f"Of: {', '.join(STACKS)}; all unless given.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=NUM_TASKS)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.stacks or STACKS:
        with STACKS[name]() as factory:
            rows += rerun(factory.client, arguments.repeat, arguments.tasks, f"rerun_{arguments.tasks}_tasks_{name}")
            rows += coalesce(factory.client, arguments.repeat, f"coalesce_{NUM_SUBMISSIONS}_{name}")
    write_results("cache", rows)


def rerun(client: Client, num_runs: int, num_tasks: int, case: str) -> list[Row]:
    """Seconds from submission to the end of a run whose every task was computed before, and how many of them hit."""
    job = stages.Function(jobs.sum_of_parts, params={"count": num_tasks})
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
