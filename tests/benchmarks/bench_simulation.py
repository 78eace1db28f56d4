"""The simulation at length: every fault point with many seeds, how many promises were broken, and how fast it goes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from benchmarks.harness import Row, row, write_results
from millrace.testing.faults import POINTS, FaultPoint
from millrace.testing.simulation.run import simulate

NUM_SEEDS = 100
NUM_RUNS = 6
"""Runs in one world: 40 points, 100 seeds and 6 runs are 24,000 runs."""

Result = tuple[int, dict[FaultPoint, int], list[str], float]


def one_seed(seed: int) -> Result:
    """One world for each fault point; return (runs, strikes by point, reports of what went wrong, CPU seconds)."""
    begin, struck, reports = time.process_time(), Counter[FaultPoint](), list[str]()
    for focus in POINTS:
        report = simulate(seed, focus=focus, num_runs=NUM_RUNS)
        struck.update(report.struck)
        if report.violations:
            reports.append(str(report))
    return NUM_RUNS * len(POINTS), dict(struck), reports, time.process_time() - begin


def main() -> int:
    """Run all seeds, one process a core; 1 if any promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    results = list(_in_processes(range(arguments.first, arguments.first + arguments.seeds)))
    struck = sum((Counter(s) for _, s, _, _ in results), Counter[FaultPoint]())
    reports = [report for _, _, found, _ in results for report in found]
    for report in reports:
        print(report, file=sys.stderr)
    write_results("simulation", rows(results, struck, len(reports)))
    return bool(reports)


def rows(results: list[Result], struck: Counter[FaultPoint], num_bad: int) -> list[Row]:
    never = [p for p in POINTS if not struck[p]]
    return [
        row("all_points", "faulted_runs", "runs", [sum(runs for runs, *_ in results)]),
        row("all_points", "faults", "faults", [sum(struck.values())]),
        row("all_points", "points_never_struck", "points", [len(never)]),
        row("all_points", "worlds_with_violations", "worlds", [num_bad]),
        row("all_points", "runs_per_core_second", "runs/s", [runs / cpu_s for runs, _, _, cpu_s in results]),
    ]


def _in_processes(seeds: range) -> Iterator[Result]:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for number, result in enumerate(pool.map(one_seed, seeds), start=1):
            print(f"\r{number} of {len(seeds)} seeds", end="", file=sys.stderr, flush=True)
            yield result
    print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
