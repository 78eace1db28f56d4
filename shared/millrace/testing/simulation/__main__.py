"""Repeat a seed: `python -m millrace.testing.simulation --seed 7 --point 16`."""

from __future__ import annotations

import argparse
import sys

from millrace.testing.faults import POINTS
from millrace.testing.simulation.run import NUM_RUNS, simulate


def main() -> int:
    """Run seeds one after another; print what each leaves; 1 if any promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="The first seed.")
    parser.add_argument("--seeds", type=int, default=1, help="How many.")
    parser.add_argument(
        "--point", type=int, choices=[p.number for p in POINTS], metavar="NUMBER",
        help="The fault point that is struck often; see docs/testing.md.",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help="Runs in each world.")
    arguments = parser.parse_args()
    focus = next((p for p in POINTS if p.number == arguments.point), None)
    num_bad = 0
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        report = simulate(seed, focus=focus, num_runs=arguments.runs)
        print(
            report if report.violations else f"seed {seed}: nothing is wrong ({report.trace}, {report.virtual_s:.0f} s)"
        )
        num_bad += bool(report.violations)
    return bool(num_bad)


if __name__ == "__main__":
    sys.exit(main())
