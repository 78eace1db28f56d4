"""Several conductors, gateways and workers at once: hit, replaced, and of two versions."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos.fleet import NEXT, THIS, Fleet, read_run, running_fleet
from millrace import Client, Pipeline, Run
from millrace.ledger.connect import open_database
from millrace.ledger.migrating import read_schema
from millrace.ledger.migrations import CODE
from millrace.settings import Settings
from millrace.testing.checker import check
from servers.postgres import Postgres
from servers.rabbitmq import RabbitMQ

pytestmark = [pytest.mark.servers, pytest.mark.timeout(200)]

NUM_RUNS = 60
LIMIT_S = 100.0
REST_S = 30.0


@pytest.fixture
def settings(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path) -> Settings:
    """A broker and a database that may have many clients; a directory is store enough."""
    return Settings(home=tmp_path / "home", broker_url=rabbitmq.new_vhost(), database_url=postgres.new_database())


def test_many_conductors_and_gateways_share_one_factory_also_when_some_die(settings: Settings) -> None:
    with running_fleet(settings) as fleet, ThreadPoolExecutor(6) as readers:
        conductors = [fleet.start("conductor") for _ in range(3)]
        (_, first), (second_process, second) = fleet.gateway(), fleet.gateway()
        for _ in range(2):
            fleet.start("worker", "functions", "--classes", "cpu")
        for url in (first, second):
            fleet.wait_ready(url)
        deadline = time.monotonic() + LIMIT_S
        with Client(first) as one, Client(second) as two:
            runs = submit([one, two], NUM_RUNS // 3)
            readings = [
                readers.submit(read_run, r.id, (first, second), each=3, is_over=lambda: time.monotonic() > deadline)
                for r in runs[-6:]
            ]
            conductors[0].kill()
            runs += submit([one, two], NUM_RUNS // 3)
            second_process.kill()
            second_process.wait()
            conductors[1].send_signal(signal.SIGTERM)
            runs += submit([one], NUM_RUNS // 6)
            fleet.gateway(port=int(second.rpartition(":")[2]))
            fleet.wait_ready(second)
            runs += submit([two], NUM_RUNS - len(runs))
            assert {r.wait_end(timeout_s=LIMIT_S).status for r in runs} == {"succeeded"}
        assert conductors[1].wait(30) == 0
        told = {run.id: reading.result() for run, reading in zip(runs[14:20], readings, strict=True)}
        assert check(settings, accepted=[r.id for r in runs], patience_s=REST_S) == []
    assert len(runs) == NUM_RUNS
    assert {r: [number for number, _ in events] for r, events in told.items()} == {
        r: list(range(1, length + 1)) for r, length in lengths(settings).items() if r in told
    }
    assert {events[-1][1] for events in told.values()} == {"run.finished.v1"}


def test_this_version_and_the_next_one_run_together(settings: Settings) -> None:
    with running_fleet(settings) as fleet:
        urls = [start_one_of_each(fleet, THIS)]
        with Client(urls[0]) as this:
            runs = submit([this], 4)
            urls.append(start_one_of_each(fleet, NEXT))
            with Client(urls[1]) as following:
                runs += submit([this, following], 12)
                assert {r.wait_end(timeout_s=LIMIT_S).status for r in runs} == {"succeeded"}
                late = fleet.start("conductor")  # of this version, on a database that the next one has migrated
                for member in fleet.members[:3]:
                    member.send_signal(signal.SIGTERM)
                more = submit([following], 4)
                assert {r.wait_end(timeout_s=LIMIT_S).status for r in more} == {"succeeded"}
                assert late.poll() is None
                told = [e for r in runs for e in following.run(r.id).events()]
            grown = {e.source.partition("/")[0] for e in told if "colour" in e.data}
            assert grown >= {"worker", "conductor"}, "the next version said nothing that this one does not know"
        assert check(settings, accepted=[r.id for r in (*runs, *more)], patience_s=REST_S) == []
    database = open_database(settings.database)
    assert read_schema(database).version == CODE + 1
    database.close()


def start_one_of_each(fleet: Fleet, program: Sequence[str]) -> str:
    _, url = fleet.gateway(program=program)
    fleet.start("conductor", program=program)
    fleet.start("worker", "functions", "--classes", "cpu", program=program)
    fleet.wait_ready(url)
    return url


def submit(clients: Sequence[Client], count: int) -> list[Run]:
    """Submit small runs by turns: one task in two stages, or three tasks side by side."""
    shapes = [
        {"a": {"kind": "noop"}, "b": {"kind": "noop", "needs": ["a"], "with": {"sleep_s": 0.2}}},
        {"a": {"kind": "noop", "with": {"num_tasks": 3, "sleep_s": 0.05}}},
    ]
    pipelines = [Pipeline.from_dict({"api": "millrace/v1", "name": "small", "stages": stages}) for stages in shapes]
    return [clients[n % len(clients)].submit(pipelines[n // 2 % 2]) for n in range(count)]


def lengths(settings: Settings) -> dict[str, int]:
    """How many events each run has."""
    database = open_database(settings.database)
    try:
        return {str(run): int(seq) for run, seq in database.read("SELECT run_id, seq FROM runs")}
    finally:
        database.close()
