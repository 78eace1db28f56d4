"""What the lifecycle costs: five-stage no-op runs on several stacks, alone and many at once, and who pays for a step.

python -m benchmarks.bench_orchestration [CASE...] [--repeat N] [--profile FILE]

CPU is counted by group: the conductor, the gateway, workers with their children, the broker and the database. The time of
this program, which is the client, is no group's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks.factories import cpu_by_group, embedded, pid_of, production
from benchmarks.harness import Row, percentile, row, write_results
from benchmarks.profiling import profiled
from millrace import Client, Pipeline
from millrace.client.submission import Submission
from millrace.testing.factory import Factory

NUM_STAGES = 5
NUM_RUNS = 200
OPEN_RUNS = 32
NUM_ALONE = 15
REPEAT = 3

PIPELINE = Pipeline.from_dict(
    {
        "api": "millrace/v1",
        "name": "noop",
        "stages": {
            f"s{n}": {"kind": "noop", "cache": False, "needs": [f"s{n - 1}"] if n else []} for n in range(NUM_STAGES)
        },
    }
)

Start = Callable[[], AbstractContextManager[Factory]]


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


def measure(case: str, start: Start, *, repeat: int, profile: Path | None = None) -> list[Row]:
    """All figures of one case; spreads are over repetitions on one factory, which is warm."""
    singles: list[float] = []
    rates: list[float] = []
    seconds: list[list[float]] = []
    costs: list[dict[str, float]] = []
    with start() as factory:
        factory.client.submit(PIPELINE).wait()
        together(factory.client)  # children and caches are warm after this
        for _ in range(repeat):
            singles += alone(factory.client)
            with profiled(pid_of(factory, "conductor"), profile) if profile else nullcontext():
                before = cpu_by_group(factory)
                wall, of_runs = together(factory.client)
                after = cpu_by_group(factory)
            steps = NUM_RUNS * NUM_STAGES
            rates.append(steps / wall)
            seconds.append(of_runs)
            costs.append({group: 1000 * (after[group] - before[group]) / steps for group in after})
    return [
        row(case, "steps_per_s", "1/s", rates),
        row(case, "run_p50", "s", [percentile(s, 0.5) for s in seconds]),
        row(case, "run_p99", "s", [percentile(s, 0.99) for s in seconds]),
        row(case, "run_alone", "s", singles),
        row(case, "cpu_per_step", "ms", [sum(cost.values()) for cost in costs]),
        *(row(case, f"cpu_per_step_{group}", "ms", [cost[group] for cost in costs]) for group in costs[0]),
    ]


@contextmanager
def _fork_per_step() -> Iterator[Factory]:
    with production(s3=False, MILLRACE_REUSE="false") as factory:
        yield factory


CASES: dict[str, Start] = {
    "five_stage_noop_embedded": embedded,
    "five_stage_noop_rabbitmq_postgres": lambda: production(s3=False),
    "five_stage_noop_fork_per_step": _fork_per_step,
    "five_stage_noop_outputs_on_s3": production,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"Of: {', '.join(CASES)}. By default all.")
    parser.add_argument("--repeat", type=int, default=REPEAT, help="Repetitions of each case.")
    parser.add_argument("--profile", type=Path, help="Write where the conductor's time goes: folded stacks, by py-spy.")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    rows: list[Row] = []
    for case in arguments.cases or CASES:
        rows += measure(case, CASES[case], repeat=arguments.repeat, profile=arguments.profile)
    write_results("orchestration", rows)


if __name__ == "__main__":
    main()
