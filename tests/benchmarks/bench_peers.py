"""Five no-op steps a run on Millrace and on its peers, one after the other in one run of this script.

Peers do less or more than Millrace: the Celery chain keeps no state of a run, Prefect and Dagster keep one as Millrace does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench_orchestration import NUM_STAGES, alone, together
from benchmarks.factories import production
from benchmarks.harness import Row, row, write_results
from benchmarks.peers.environment import environment, run_peer
from servers import rabbitmq

PEERS = Path(__file__).parent / "peers"
CELERY, PREFECT, DAGSTER = "celery==5.7.0", "prefect==3.9.1", "dagster==1.13.29"
OPEN_RUNS = 32


def of_millrace() -> tuple[list[float], float]:
    with production(s3=False) as factory:
        together(factory.client)  # children and caches are warm after this
        seconds = alone(factory.client)
        wall, runs = together(factory.client)
        return seconds, NUM_STAGES * len(runs) / wall


def of_celery() -> dict[str, Any]:
    with rabbitmq.run() as broker:
        url = broker.new_vhost()
        answer: dict[str, Any] = run_peer(
            environment([CELERY]), PEERS / "celery_chain.py", url, "200", str(OPEN_RUNS), "15"
        )
        return answer


def of_prefect() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer: dict[str, Any] = run_peer(
            environment([PREFECT]), PEERS / "prefect_flow.py", folder, "32", str(OPEN_RUNS), "5"
        )
        return answer


def of_dagster() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer: dict[str, Any] = run_peer(environment([DAGSTER]), PEERS / "dagster_job.py", folder, "3")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="Rounds over all subjects, interleaved.")
    repeat = parser.parse_args().repeat
    singles: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for _ in range(repeat):
        seconds, rate = of_millrace()
        singles.setdefault("millrace", []).extend(seconds)
        rates.setdefault("millrace", []).append(rate)
        for subject, measure in ((CELERY, of_celery), (PREFECT, of_prefect), (DAGSTER, of_dagster)):
            answer = measure()
            singles.setdefault(subject, []).extend(answer["alone"])
            rates.setdefault(subject, []).append(answer["steps_per_s"])
    rows: list[Row] = []
    for subject in rates:
        rows.append(row("five_stage_noop", "steps_per_s", "1/s", rates[subject], subject=subject))
        rows.append(row("five_stage_noop", "run_alone", "s", singles[subject], subject=subject))
    write_results("peers", rows)


if __name__ == "__main__":
    main()
