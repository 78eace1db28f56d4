"""A storm: runs keep coming while processes are killed and servers restarted; then calm, in which every run must end well."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from chaos import victims
from millrace import Client, Pipeline, Run, errors
from millrace.contracts.pipelines import RunStatus

log = structlog.get_logger()

PATIENT = {"max_attempts": 20, "backoff_s": 0.2, "max_losses": 100, "max_outages": 1000}
"""A task that is hit again and again by chance is no poison: the storm kills whatever it finds."""

CALM_S = 150.0


def mapped(number: int) -> Pipeline:
    """Stages that fan out, merge, and follow each other."""
    stages: dict[str, Any] = {
        "a": {"kind": "noop", "with": {"num_tasks": 6, "sleep_s": 0.1}},
        "b": {"kind": "noop", "needs": ["a"], "with": {"sleep_s": 0.4}},
        "c": {"kind": "noop", "needs": ["a"], "with": {"num_tasks": 3}},
        "d": {"kind": "noop", "needs": ["b", "c"], "with": {"metric": float(number)}},
    }
    return _patient("mapped", stages)


def modelled() -> Pipeline:
    """The lifecycle of a small model, from rows to an endpoint."""
    stages: dict[str, Any] = {
        "clean": {"with": {"target": "label", "task": "tabular_classification"}},
        "train": {"with": {"epochs": 2}},
        "evaluate": {},
        "deploy": {"with": {"endpoint": "stormy"}},
    }
    return _patient("modelled", stages, params={"data": {"type": "dataset"}})


def _patient(name: str, stages: dict[str, Any], **fields: Any) -> Pipeline:
    patient = {stage: {**spec, "retry": PATIENT, "cache": False} for stage, spec in stages.items()}
    return Pipeline.from_dict({"api": "millrace/v1", "name": name, "stages": patient, **fields})


@dataclass
class Storm:
    """What is hit, and what has been.

    Attributes:
        urls: Gateways; a submission tries each.
        roots: Gives the process ids of the supervisors.
        restarts: Servers by name, as functions that stop one and start it again.
        data: Rows for `modelled`; without them only no-ops run.
    """

    urls: Sequence[str]
    roots: Callable[[], Sequence[int]]
    seed: int
    restarts: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    data: Path | None = None
    kills: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)

    def rage(self, *, num_kills: int, restarts_each: int, pause_s: float, limit_s: float) -> None:
        """Submit and kill until there were so many kills and restarts, or time is up."""
        calm = threading.Event()
        submitting = threading.Thread(target=self._submit_until, args=(calm,))
        restarting = threading.Thread(target=self._restart, args=(restarts_each, limit_s))
        submitting.start()
        restarting.start()
        rng, deadline = random.Random(self.seed), time.monotonic() + limit_s
        while (self.num_processes_killed < num_kills or restarting.is_alive()) and time.monotonic() < deadline:
            time.sleep(rng.expovariate(1 / pause_s))
            if kind := victims.kill_one(self.roots(), rng):
                self.kills[kind] += 1
        restarting.join()
        calm.set()
        submitting.join()

    @property
    def num_processes_killed(self) -> int:
        return sum(n for kind, n in self.kills.items() if kind not in self.restarts)

    def ends(self, *, limit_s: float = CALM_S) -> dict[str, RunStatus]:
        """Statuses of all accepted runs once all have ended, or when the patience has."""
        deadline, statuses = time.monotonic() + limit_s, {}
        for run_id in self.runs:
            statuses[run_id] = self._end(run_id, deadline)
        return statuses

    def _end(self, run_id: str, deadline: float) -> RunStatus:
        while True:
            try:
                with Client(self.urls[0]) as client:
                    return client.run(run_id).wait_end(timeout_s=max(0.1, deadline - time.monotonic())).status
            except errors.Unavailable:
                if time.monotonic() >= deadline:
                    with Client(self.urls[0]) as client:
                        return client.run(run_id).view.status
                time.sleep(0.2)

    def _submit_until(self, calm: threading.Event) -> None:
        rng, number = random.Random(self.seed + 1), 0
        while not calm.wait(rng.expovariate(1 / 1.5)):
            number += 1
            with_model = self.data is not None and number % 6 == 1
            run = self._accepted(modelled() if with_model else mapped(number), number, calm, with_data=with_model)
            if run is not None:
                self.runs.append(run.id)

    def _accepted(self, pipeline: Pipeline, number: int, calm: threading.Event, *, with_data: bool) -> Run | None:
        """Submit under one key until a gateway has accepted: accepted is committed, and a repetition is the same run."""
        for attempt in range(1000):
            try:
                with Client(self.urls[attempt % len(self.urls)]) as client:
                    return client.submit(
                        pipeline, data=self.data if with_data else None, idempotency_key=f"storm-{self.seed}-{number}"
                    )
            except errors.MillraceError as error:
                if not error.retryable:
                    raise
                if calm.wait(0.2):
                    return None
        return None

    def _restart(self, times: int, limit_s: float) -> None:
        rng, deadline = random.Random(self.seed + 2), time.monotonic() + limit_s
        order = [name for name in self.restarts for _ in range(times)]
        rng.shuffle(order)
        for name in order:
            time.sleep(
                5 + rng.random()
            )  # RabbitMQ 3.10 forgets a quorum queue that is killed within a second of its birth
            if time.monotonic() > deadline:
                return
            self.restarts[name]()
            self.kills[name] += 1
