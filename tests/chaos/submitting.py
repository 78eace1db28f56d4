"""Runs that keep coming, what users wish of them meanwhile, and which ends they may have after that."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from millrace import Client, Pipeline, Run, errors
from millrace.contracts.views import TERMINAL_STATUSES

T = TypeVar("T")

PATIENT = {"max_attempts": 20, "backoff_s": 0.2, "max_losses": 100, "max_outages": 1000}
"""A task that is hit again and again by chance is no poison: a storm hits whatever it finds."""

GIVE_UP_S = 120.0
"""How long a gateway may stay away when all is calm."""

EVERY_S = 2.0
WISH_EVERY_S = 4.0
MODEL_EVERY = 12
NUM_ENDPOINTS = 40 * MODEL_EVERY
"""So many that no release is replaced before a server had it: a run whose release is fails, and says so."""

MAX_OPEN = 12
RECENT = 4
"""Wishes are about one of so many runs that were submitted last."""


def mapped(number: int) -> Pipeline:
    """Stages that fan out, merge, and follow each other."""
    stages: dict[str, Any] = {
        "a": {"kind": "noop", "with": {"num_tasks": 6, "sleep_s": 0.2}},
        "b": {"kind": "noop", "needs": ["a"], "with": {"sleep_s": 1.0}},
        "c": {"kind": "noop", "needs": ["a"], "with": {"num_tasks": 3}},
        "d": {"kind": "noop", "needs": ["b", "c"], "with": {"metric": float(number)}},
    }
    return _patient("mapped", stages)


def modelled(endpoint: str, **train: Any) -> Pipeline:
    """The lifecycle of a small model, from rows to an endpoint; two epochs unless `train` says otherwise."""
    stages: dict[str, Any] = {
        "clean": {"with": {"target": "label", "task": "tabular_classification"}},
        "train": {"with": train or {"epochs": 2}},
        "evaluate": {},
        "deploy": {"with": {"endpoint": endpoint}},
    }
    return _patient("modelled", stages, params={"data": {"type": "dataset"}})


def _patient(name: str, stages: dict[str, Any], **fields: Any) -> Pipeline:
    patient = {stage: {**spec, "retry": PATIENT, "cache": False} for stage, spec in stages.items()}
    return Pipeline.from_dict({"api": "millrace/v1", "name": name, "stages": patient, **fields})


class Users:
    """Submit, cancel, pause, resume and retry, through whichever gateway answers.

    Attributes:
        runs: Ids of all accepted runs, with the statuses that they may end with.
        wishes: How many of each kind were answered.
    """

    def __init__(self, urls: Sequence[str], *, seed: int, data: Path | None) -> None:
        """`data` are rows for `modelled`; without them only no-ops run."""
        self.runs: dict[str, set[str]] = {}
        self.wishes: Counter[str] = Counter()
        self._open: list[str] = []
        self._urls = urls
        self._seed = seed
        self._data = data

    def submit_until(self, calm: threading.Event) -> None:
        """Submit a run every two seconds or so, unless so many are open that they only wait for each other."""
        rng, number = random.Random(self._seed + 1), 0
        while not calm.is_set():
            number += 1
            with_model = self._data is not None and number % MODEL_EVERY == 2
            pipeline = modelled(f"stormy{number % NUM_ENDPOINTS}") if with_model else mapped(number)
            self._submit(pipeline, number, with_data=with_model)
            calm.wait(rng.expovariate(1 / EVERY_S))
            while len(self._open) >= MAX_OPEN and not calm.wait(1.0):
                self._open = [run_id for run_id in self._open if not self._is_over(run_id)]

    def wish_until(self, calm: threading.Event) -> None:
        """Wish something of one of the latest runs every four seconds or so, of each run at most once."""
        rng = random.Random(self._seed + 3)
        left_alone: set[str] = set()
        while not calm.wait(rng.expovariate(1 / WISH_EVERY_S)):
            recent = [run_id for run_id in list(self.runs)[-RECENT:] if run_id not in left_alone]
            if recent:
                run_id = rng.choice(recent)
                left_alone.add(run_id)
                rng.choice((self._cancel, self._cancel_and_retry, self._pause_and_resume))(run_id, rng)

    def ends(self, *, limit_s: float) -> dict[str, str]:
        """How each accepted run ended; of one that has not within the limit, how it stands."""
        deadline = time.monotonic() + limit_s
        return {run_id: self._end(run_id, deadline) for run_id in self.runs}

    def _submit(self, pipeline: Pipeline, number: int, *, with_data: bool) -> None:
        """Accepted is committed, and a repetition under one key is the same run."""
        data, key = self._data if with_data else None, f"storm-{self._seed}-{number}"
        run = self._persistently(lambda client: client.submit(pipeline, data=data, idempotency_key=key))
        self.runs[run.id] = {"succeeded"}
        self._open.append(run.id)

    def _is_over(self, run_id: str) -> bool:
        return self._persistently(lambda client: client.run(run_id).view.status) in TERMINAL_STATUSES

    def _cancel(self, run_id: str, _rng: random.Random) -> None:
        """What was answered is final: cancelled, unless the answer was that it had ended otherwise."""
        if self._wish("cancel", run_id, lambda run: run.cancel()):
            self.runs[run_id] = {"cancelled"}

    def _cancel_and_retry(self, run_id: str, rng: random.Random) -> None:
        self._cancel(run_id, rng)
        if self.runs[run_id] == {"cancelled"}:
            status = self._end(run_id, time.monotonic() + GIVE_UP_S)
            assert status == "cancelled", f"{run_id} was cancelled, and is {status}"
            if self._wish("retry", run_id, lambda run: run.retry()):
                self.runs[run_id] = {"succeeded"}

    def _pause_and_resume(self, run_id: str, rng: random.Random) -> None:
        if self._wish("pause", run_id, lambda run: run.pause()):
            time.sleep(rng.uniform(0, 3))
            self._wish("resume", run_id, lambda run: run.resume())

    def _wish(self, name: str, run_id: str, wish: Callable[[Run], object]) -> bool:
        """Whether it was accepted; otherwise the run's state did not allow it, as it was told."""
        try:
            self._persistently(lambda client: wish(client.run(run_id)))
        except errors.Conflict:
            self.wishes[f"{name} refused"] += 1
            return False
        self.wishes[name] += 1
        return True

    def _end(self, run_id: str, deadline: float) -> str:
        def wait(client: Client) -> str:
            run = client.run(run_id)
            try:
                return str(run.wait_end(timeout_s=max(0.1, deadline - time.monotonic())).status)
            except errors.DeadlineExceeded:
                return str(run.refresh().status)

        return self._persistently(wait)

    def _persistently(self, ask: Callable[[Client], T]) -> T:
        """Ask one gateway after the other until one answers."""
        deadline, attempt = time.monotonic() + GIVE_UP_S, 0
        while True:
            try:
                with Client(self._urls[attempt % len(self._urls)]) as client:
                    return ask(client)
            except errors.MillraceError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise
            attempt += 1
            time.sleep(0.2)
