"""How soon a death is noticed, and whether the living are left alone.

Deaths: from SIGKILL to the next attempt's child at work, on RabbitMQ, PostgreSQL and S3 with the default lease of 30 s.
False kills: `--soak-s 3600` lets attempts hold the interpreter's lock and be stopped for less than a lease, for an hour.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.factories import production
from benchmarks.harness import Row, percentile, row, write_results
from chaos import victims
from millrace import Pipeline, Run
from millrace.testing.factory import Factory

TESTS = Path(__file__).parents[1]
NUM_CHILDREN, NUM_WORKERS, NUM_HOSTS = 100, 20, 2
POLL_S = 0.004

PATIENT = {"max_attempts": 20, "max_losses": 100, "backoff_s": 0.2}


def sleeper(**config: object) -> Pipeline:
    """A stage that works for ten minutes, unless somebody kills it."""
    stage = {"kind": "noop", "retry": PATIENT, "cache": False, "with": {"sleep_s": 600.0, **config}}
    return Pipeline.from_dict({"api": "millrace/v1", "name": "sleeper", "stages": {"sleep": stage}})


def child_of(run: Run, *, other_than: int = 0, limit_s: float = 120.0) -> int:
    """Process id of the child that works for a run, once there is one."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if pid != other_than and _works_for(pid, run.id):
                return pid
        time.sleep(POLL_S)
    raise TimeoutError(f"nobody works for {run.id}")


def _works_for(pid: int, run_id: str) -> bool:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return title.startswith(b"millrace: ") and run_id.encode() in title
    except OSError:
        return False


def seconds_to_next(run: Run, kill: Callable[[int], None]) -> float:
    """Have `kill` end the child's attempt; return how long it took until another works."""
    child = child_of(run)
    time.sleep(0.3)  # long enough that it has said that it works
    begin = time.monotonic()
    kill(child)
    child_of(run, other_than=child)
    return time.monotonic() - begin


def _worker_above(pid: int) -> psutil.Process:
    return next(p for p in psutil.Process(pid).parents() if victims.kind_of(p.pid) == "worker")


def kill_child(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_worker(pid: int) -> None:
    _worker_above(pid).kill()


def deaths(factory: Factory, kill: Callable[[int], None], count: int) -> list[float]:
    """One run for each death: a task that is lost again waits longer each time, which is policy, not detection."""
    seconds = []
    for _ in range(count):
        run = factory.client.submit(sleeper())
        seconds.append(seconds_to_next(run, kill))
        run.cancel()
        run.wait_end(timeout_s=30)
    return seconds


@contextmanager
def second_host(factory: Factory) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **factory.environment, "MILLRACE_HOME": str(factory.home.with_name("second"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos.second_host"], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def host_losses(factory: Factory, count: int) -> list[float]:
    """Kill all processes of a host at once, so that nobody there can say so."""
    seconds: list[float] = []
    while len(seconds) < count:
        with second_host(factory) as host:
            runs = [factory.client.submit(sleeper()) for _ in range(4)]
            time.sleep(8)
            family = psutil.Process(host.pid).children(recursive=True)
            there = {p.pid for p in family}
            run = next((r for r in runs if child_of(r) in there), None)
            if run is not None:
                child = child_of(run)
                begin = time.monotonic()
                for process in [psutil.Process(host.pid), *family]:
                    process.kill()
                for other in runs:
                    if other is not run:
                        other.cancel()
                child_of(run, other_than=child)
                seconds.append(time.monotonic() - begin)
        for run in runs:
            if run.refresh().status == "running":
                run.cancel()
    return seconds


def false_kills(factory: Factory, *, soak_s: float, seed: int) -> tuple[int, int]:
    """(attempts beyond the first, disturbances) while children hog the interpreter and processes are stopped for a while."""
    rng, end, stops = random.Random(seed), time.monotonic() + soak_s, 0
    runs = [factory.client.submit(sleeper(sleep_s=soak_s, hog=number == 0)) for number in range(2)]
    for run in runs:
        child_of(run)
    while time.monotonic() < end - 40:
        found = victims.find([factory.pid])
        kind = rng.choice(["child", "worker", "conductor", "zygote"])
        if pids := found.get(kind):
            pid, stops = rng.choice(pids), stops + 1
            os.kill(pid, signal.SIGSTOP)
            time.sleep(rng.uniform(1, 24))  # the lease is 30 s, a heartbeat comes every 5
            os.kill(pid, signal.SIGCONT)
        time.sleep(rng.uniform(1, 10))
    views = [run.wait(timeout_s=120) for run in runs]
    return sum(v.stages[0].attempts - 1 for v in views), stops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak-s", type=float, default=0.0, help="How long to look for false kills; 0: not at all.")
    parser.add_argument("--only-soak", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: list[Row] = []
    with production() as factory:
        if not arguments.only_soak:
            for case, seconds in (
                ("child_death", deaths(factory, kill_child, NUM_CHILDREN)),
                ("worker_sigkill", deaths(factory, kill_worker, NUM_WORKERS)),
                ("host_loss", host_losses(factory, NUM_HOSTS)),
            ):
                rows.append(row(case, "next_attempt", "s", seconds))
                rows.append(row(case, "next_attempt_p99", "s", [percentile(seconds, 0.99)]))
        if arguments.soak_s:
            kills, stops = false_kills(factory, soak_s=arguments.soak_s, seed=arguments.seed)
            rows.append(row("soak", "false_kills", "count", [kills]))
            rows.append(row("soak", "stops_below_lease", "count", [stops]))
            rows.append(row("soak", "duration", "s", [arguments.soak_s]))
    write_results("detection_soak" if arguments.only_soak else "detection", rows)


if __name__ == "__main__":
    main()
