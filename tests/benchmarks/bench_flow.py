"""Flow on RabbitMQ and PostgreSQL: a run of very many tasks, very many runs at once, lists of them, and a noisy tenant.

python -m benchmarks.bench_flow [CASE...] [--scale 0.01] [--embedded] [--fan-out-minutes 7]

At full size on two quiet cores the cases take about 8, 3 and 1 minutes, the start of their servers included. A fan-out that
has not ended when its time is over is measured where it is and cancelled; `tasks_done` says how far it came. What has been
measured is written after each case, so that an interrupted benchmark keeps the cases before.

Latencies are of probes: no-op runs of one stage that are submitted while the rest goes on, from acceptance to end by the
ledger's clock. The scale multiplies sizes; figures that are quoted are of scale 1.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.factories import embedded, pid_of, production
from benchmarks.harness import Row, percentile, print_rows, row, update_results
from gateways import running_gateway
from millrace import Client, Pipeline
from millrace.client.runs import Run
from millrace.settings import Settings
from millrace.testing.factory import Factory

NUM_TASKS = 100_000
NUM_OPEN_RUNS = 10_000
NUM_LISTS = 300
NUM_PROBES = 20
NUM_QUIET_RUNS = 60
SUBMITTERS = 8
SAY_S = 15.0
SLOTS = 4
TASK_S = 0.2
"""How long tasks of the two tenants take."""

KEY = "bench"

Start = Callable[..., AbstractContextManager[Factory]]


def pipeline(name: str, *, limit: str = "", **config: Any) -> Pipeline:
    """One no-op stage."""
    stage: dict[str, Any] = {"kind": "noop", "with": config}
    if limit:
        stage["limit"] = {"key": limit, "max": 1}
    return Pipeline.from_dict({"api": "millrace/v1", "name": name, "stages": {"s": stage}})


def probe(client: Client, num: int) -> list[float]:
    """Milliseconds of urgent no-op runs, one after the other."""
    runs = (client.submit(pipeline("probe"), priority=100).wait() for _ in range(num))
    return [1000 * (v.finished_at - v.submitted_at).total_seconds() for v in runs if v.finished_at]


class Memory:
    """The most that the conductor holds resident, looked at ten times a second."""

    def __init__(self, factory: Factory) -> None:
        self.peak_mb = 0.0
        self._process = psutil.Process(pid_of(factory, "conductor"))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)


# --- the cases -------------------------------------------------------------------------------------------------------


def fan_out(start: Start, *, scale: float, limit_s: float) -> list[Row]:
    """One run of very many tasks: how long a command waits at its start and at its end."""
    case, num_tasks, num_probes = "fan_out_100k", int(NUM_TASKS * scale), max(3, int(NUM_PROBES * min(1, scale * 10)))
    with start() as factory, Memory(factory) as memory:
        probe(factory.client, 3)
        begin = time.perf_counter()
        run = factory.client.submit(pipeline("fan_out", num_tasks=num_tasks))
        wait_for_share(run, 0.02, num_tasks, until=begin + limit_s)
        at_start = probe(factory.client, num_probes)
        wait_for_share(run, 0.95, num_tasks, until=begin + limit_s)
        at_end = probe(factory.client, num_probes)
        wait_for_share(run, 1.0, num_tasks, until=begin + limit_s)
        view, seconds = run.refresh(), time.perf_counter() - begin
        num_done = view.stages[0].num_done
        if view.finished_at is None and num_done < num_tasks:
            run.cancel()
        else:
            run.wait()
        merged_s = time.perf_counter() - begin - seconds
    return [
        row(case, "tasks_done", "1", [num_done]),
        row(case, "merge", "s", [merged_s]),
        row(case, "dispatch_latency_start", "ms", at_start),
        row(case, "dispatch_latency_end", "ms", at_end),
        row(case, "conductor_rss_mb", "MB", [memory.peak_mb]),
        row(case, "tasks_per_s", "1/s", [num_done / seconds]),
    ]


def open_runs(start: Start, *, scale: float, limit_s: float) -> list[Row]:
    """Very many runs open at once behind a limit: accepting and listing them, a probe beside them, and their end."""
    case, num_runs = "open_runs_10000", int(NUM_OPEN_RUNS * scale)
    with start() as factory, Memory(factory) as memory:
        client = factory.client
        client.set_limit(KEY, 0)
        begin = time.perf_counter()
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            kinds = [pipeline(f"open-{n}", limit=KEY) for n in range(10)]
            runs = list(
                pool.map(lambda n: client.submit(kinds[n % 10], labels={"number": str(n)}), range(num_runs))
            )  # fmt: skip
        accepted_s = time.perf_counter() - begin
        say(f"{num_runs} runs are open after {accepted_s:.0f} s")
        probes = probe(client, max(3, int(NUM_PROBES * min(1, scale * 10))))
        lists = [
            seconds for _ in range(max(1, int(NUM_LISTS * min(1, scale * 10)) // 6)) for seconds in listed(client, runs)
        ]
        begin = time.perf_counter()
        client.set_limit(KEY, 100_000)
        for number, run in enumerate(runs):
            run.wait()
            if number % 1000 == 999:
                say(f"{number + 1} runs have ended after {time.perf_counter() - begin:.0f} s")
        ended_s = time.perf_counter() - begin
    return [
        row(case, "accepted_per_s", "1/s", [num_runs / accepted_s]),
        row(case, "ended_per_s", "1/s", [num_runs / ended_s]),
        row(case, "probe_latency", "ms", probes),
        row(case, "conductor_rss_mb", "MB", [memory.peak_mb]),
        row("list_runs_p95", "p95", "ms", [1000 * percentile(lists, 0.95)]),
    ]


def listed(client: Client, runs: Sequence[Run]) -> Iterator[float]:
    """Seconds of each kind of list: newest, by status, by pipeline, by a rare label, from the middle, with no result."""
    asked: list[dict[str, Any]] = [
        {}, {"status": "running"}, {"pipeline": "open-3"}, {"label": ("number", "1")}, {"cursor": runs[len(runs) // 2].id},
        {"status": "failed"},
    ]  # fmt: skip
    for question in asked:
        begin = time.perf_counter()
        client.runs(**question)
        yield time.perf_counter() - begin


def noisy_tenant(start: Start, *, scale: float, limit_s: float) -> list[Row]:
    """A tenant's p95 beside one with very many queued tasks, over its p95 alone on half of the slots."""
    num_runs = max(10, int(NUM_QUIET_RUNS * min(1, scale * 10)))
    with start(MILLRACE_SLOTS=str(SLOTS // 2)) as factory:
        alone = quiet(factory.client, num_runs)
    with start(MILLRACE_SLOTS=str(SLOTS)) as factory, gateway_of("noisy", factory) as noisy:
        probe(factory.client, 1)
        run = noisy.submit(pipeline("noise", num_tasks=int(NUM_TASKS * scale), sleep_s=TASK_S))
        wait_for_share(run, 0.0, int(NUM_TASKS * scale), until=math.inf)
        beside = quiet(factory.client, num_runs)
        is_noisy_still = run.refresh().status == "running"
        run.cancel()
    assert is_noisy_still, "the noise was over before the measurement; enlarge the scale"
    p95 = percentile(alone, 0.95), percentile(beside, 0.95)
    return [
        row("noisy_tenant", "p95_alone", "s", [p95[0]]),
        row("noisy_tenant", "p95_beside", "s", [p95[1]]),
        row("noisy_tenant", "p95_ratio", "1", [p95[1] / p95[0]]),
    ]


def quiet(client: Client, num_runs: int) -> list[float]:
    """Seconds of a tenant's runs, as many open at a time as half of the slots take."""
    one = pipeline("quiet", sleep_s=TASK_S)
    client.submit(one).wait()
    with ThreadPoolExecutor(SLOTS // 2) as pool:
        views = list(pool.map(lambda _: client.submit(one).wait(), range(num_runs)))
    return [(v.finished_at - v.submitted_at).total_seconds() for v in views if v.finished_at]


def wait_for_share(run: Run, share: float, num_tasks: int, *, until: float) -> None:
    """Wait until the run's stage has planned, and so much of it is done, or until a time of `perf_counter`."""
    said_at = time.perf_counter()
    while True:
        view = run.refresh()
        stage, now = view.stages[0], time.perf_counter()
        if view.finished_at or now > until or (stage.num_tasks and stage.num_done >= share * num_tasks):
            return
        if now - said_at > SAY_S:
            said_at = now
            say(f"{stage.num_done} of {num_tasks} tasks are done")
        time.sleep(0.05 if num_tasks < NUM_TASKS else 0.5)


def say(words: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {words}", file=sys.stderr, flush=True)


@contextmanager
def gateway_of(tenant: str, factory: Factory) -> Iterator[Client]:
    """Another tenant's gateway to the same factory."""
    settings, given = Settings(home=factory.home), factory.environment
    urls = {
        "MILLRACE_BROKER_URL": given.get("MILLRACE_BROKER_URL", settings.broker),
        "MILLRACE_DATABASE_URL": given.get("MILLRACE_DATABASE_URL", settings.database),
        "MILLRACE_STORE_URL": given.get("MILLRACE_STORE_URL", settings.store),
    }
    with (
        tempfile.TemporaryDirectory() as home,
        running_gateway(Path(home), MILLRACE_TENANT=tenant, **urls) as url,
        Client(url) as client,
    ):
        yield client


CASES: dict[str, Callable[..., list[Row]]] = {
    "fan_out_100k": fan_out, "open_runs_10000": open_runs, "noisy_tenant": noisy_tenant,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"Of: {', '.join(CASES)}. By default all.")
    parser.add_argument("--scale", type=float, default=1.0, help="Multiplies sizes; results are written at 1 alone.")
    parser.add_argument("--fan-out-minutes", type=float, default=7.0, help="When the fan-out is ended where it is.")
    parser.add_argument("--embedded", action="store_true", help="Without servers.")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    start = embedded if arguments.embedded else partial(production, s3=False)
    name, rows = "flow_embedded" if arguments.embedded else "flow", list[Row]()
    for case in arguments.cases or CASES:
        begin = time.perf_counter()
        rows += CASES[case](start, scale=arguments.scale, limit_s=60 * arguments.fan_out_minutes)
        say(f"{case} took {time.perf_counter() - begin:.0f} s")
        if arguments.scale == 1:
            update_results(name, rows)
        else:
            print_rows(rows)


if __name__ == "__main__":
    main()
