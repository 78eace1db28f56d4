"""What the lifecycle costs: five-stage no-op runs on both stacks, alone and many at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.factories import embedded, pids, production
from benchmarks.harness import Row, cpu_seconds, percentile, row, write_results
from millrace import Client, Pipeline
from millrace.client.submission import Submission
from millrace.testing.factory import Factory

NUM_STAGES = 5
NUM_RUNS = 200
OPEN_RUNS = 32
NUM_ALONE = 30

PIPELINE = Pipeline.from_dict(
    {
        "api": "millrace/v1",
        "name": "noop",
        "stages": {
            f"s{n}": {"kind": "noop", "needs": [f"s{n - 1}"] if n else []} for n in range(NUM_STAGES)
        },
    }
)  # fmt: skip


def alone(client: Client) -> list[float]:
    """Seconds of a run when nothing else runs, as the caller sees it."""
    seconds = []
    for _ in range(NUM_ALONE):
        begin = time.perf_counter()
        client.submit(PIPELINE).wait()
        seconds.append(time.perf_counter() - begin)
    return seconds


def together(client: Client) -> tuple[float, list[float]]:
    """(wall seconds, seconds of each run by the ledger's clock) of all runs, so many open at a time."""
    begin = time.perf_counter()
    open_runs, views = [], []
    for number in range(NUM_RUNS):
        open_runs.append(client.submit_many([Submission(PIPELINE)])[0])
        if len(open_runs) == OPEN_RUNS or number == NUM_RUNS - 1:
            views += [run.wait() for run in open_runs[: 1 if number < NUM_RUNS - 1 else None]]
            open_runs = open_runs[1:]
    seconds = [(v.finished_at - v.submitted_at).total_seconds() for v in views if v.finished_at]
    return time.perf_counter() - begin, seconds


def measure(case: str, start: Callable[[], AbstractContextManager[Factory]]) -> list[Row]:
    with start() as factory:
        client = factory.client
        client.submit(PIPELINE).wait()
        singles = alone(client)
        cpu = cpu_seconds(pids(factory))
        wall, seconds = together(client)
        cpu = cpu_seconds(pids(factory)) - cpu
        steps = NUM_RUNS * NUM_STAGES
        return [
            row(case, "steps_per_s", "1/s", [steps / wall]),
            row(case, "run_p50", "s", [percentile(seconds, 0.5)]),
            row(case, "run_p99", "s", [percentile(seconds, 0.99)]),
            row(case, "cpu_per_step", "ms", [1000 * cpu / steps]),
            row(case, "run_alone", "s", singles),
        ]


def main() -> None:
    rows = measure("five_stage_noop_embedded", embedded)
    rows += measure("five_stage_noop_rabbitmq_postgres", production)
    write_results("orchestration", rows)


if __name__ == "__main__":
    main()
