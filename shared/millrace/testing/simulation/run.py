"""One seed from its beginning to the checker's word; the entry points of tests, of the benchmark and of people."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from millrace.testing.checker import check_all
from millrace.testing.faults import FaultPoint
from millrace.testing.history import Violation
from millrace.testing.referenced import check_manifests
from millrace.testing.simulation.broker import MemoryBus
from millrace.testing.simulation.clock import EPOCH, Clock, virtual_time
from millrace.testing.simulation.process import Process
from millrace.testing.simulation.world import World

NUM_RUNS = 20
PATIENCE_S = 900.0
"""Virtual seconds after which whatever has not ended is stuck: all timers and leases are shorter by far."""

_RIGHT_ERRORS = frozenset({"conflict", "deadline_exceeded"})
"""Of a run that released: a newer release came first, or no server reported it in time."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one seed.

    Attributes:
        trace: Digest of what happened: equal seeds give equal ones.
        virtual_s: How long it took in virtual time.
    """

    seed: int
    focus: FaultPoint | None
    num_runs: int
    struck: Mapping[FaultPoint, int]
    virtual_s: float
    trace: str
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        lines = "".join(f"\n  {violation}" for violation in self.violations)
        point = f" --point {self.focus.number}" if self.focus else ""
        return (
            f"seed {self.seed}: {len(self.violations)} violations; again with\n"
            f"  python -m millrace.testing.simulation --seed {self.seed}{point} --runs {self.num_runs}{lines}"
        )


def simulate(seed: int, *, focus: FaultPoint | None = None, num_runs: int = NUM_RUNS) -> Report:
    """Let one world happen, and judge what it leaves.

    Args:
        seed: Of everything that is left to chance.
        focus: The fault point that is struck often; the others are struck seldom.
        num_runs: How many runs are submitted.
    """
    clock = Clock()
    with quiet(), virtual_time(clock, seed):
        world = World(clock, seed, focus=focus, num_runs=num_runs)
        world.run(PATIENCE_S)
        violations = tuple(judge(world))
    report = Report(
        seed, focus, num_runs, world.striking.struck, world.clock.now - EPOCH, _trace(world), violations
    )  # fmt: skip
    world.database.close()
    return report


def judge(world: World) -> Iterator[Violation]:
    """The checker's word on a world at rest, and whether each run ended as it should."""
    accepted = [run.run_id for run in world.clients.submitted if run.is_accepted]
    bus = MemoryBus(world.broker, Process(world.clock, "checker"))
    yield from check_all(world.database, bus, world.store_of, accepted=accepted)
    for store in world.stores.values():
        yield from check_manifests(store, [blob.digest for blob in store.list_blobs()])
    yield from _unsaid(world)
    yield from _wrong_ends(world)
    for excess in sorted(set(world.excesses)):
        yield Violation("wrong", "dispatch", excess)
    for error in world.broker.faults:
        yield Violation("wrong", "conductor", f"a batch could not be handled: {type(error).__name__}: {error}")


def _unsaid(world: World) -> Iterator[Violation]:
    """What the conductor journalled of its own was also published."""
    rows = world.database.read(
        "SELECT event_id, type, subject FROM events WHERE source LIKE 'conductor/%' AND"
        " (type LIKE 'run.%' OR type LIKE 'stage.%' OR type = 'endpoint.desired.v1')"
    )
    for event_id, type_, subject in rows:
        if event_id not in world.broker.heard:
            yield Violation("lost", subject, f"{type_} is journalled, and was never published")


def _wrong_ends(world: World) -> Iterator[Violation]:
    for run in world.clients.submitted:
        for status, error in world.database.read("SELECT status, error FROM runs WHERE run_id = ?", (run.run_id,)):
            if status not in run.ends:
                yield Violation("wrong", run.run_id, f"it ended {status}, and should be {sorted(run.ends)}: {error}")
            elif status == "failed" and run.planned.may_release and not any(f'"{c}"' in error for c in _RIGHT_ERRORS):
                yield Violation("wrong", run.run_id, f"nothing in it fails, and it failed: {error}")


def _trace(world: World) -> str:
    rows = world.database.read("SELECT subject, seq, type FROM events ORDER BY subject, seq")
    return hashlib.sha256(repr((rows, world.clock.now)).encode()).hexdigest()[:16]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines of what fails on purpose."""
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**config)
