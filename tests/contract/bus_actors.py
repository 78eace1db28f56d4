"""Processes that the bus tests start and kill: producers, consumers, listeners and Celery workers.

Each writes one line a fact to its log file, whose lines are whole even if the process is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from millrace.bus import Bus
from millrace.bus.celery_app import WORKER_OPTIONS, command_queues, make_app
from millrace.bus.connect import connect
from millrace.contracts.commands import EXECUTE_TASK, ExecuteAttempt
from millrace.contracts.events import Event, RunStarted, StagePlanned, make_event


def make_started(id: str, *, pipeline: str = "p") -> Event:
    return make_event(RunStarted(run_id="run", pipeline=pipeline, stages=()), source="test", subject="run", id=id)


def make_planned(id: str) -> Event:
    return make_event(StagePlanned(run_id="run", stage="s", num_tasks=1), source="test", subject="run", id=id)


def make_command(attempt_id: str, *, service: str = "training", **fields: object) -> ExecuteAttempt:
    values = {"run_id": "run", "stage": "s", "kind": "train", "phase": "plan", "index": 0, "fence": 1, **fields}
    return ExecuteAttempt.model_validate({"attempt_id": attempt_id, "service": service, **values})


def wait_until(claim: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Return when claim holds; fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"nothing came of it in {timeout_s} s"
        time.sleep(0.02)


@contextlib.contextmanager
def subscribed(
    bus: Bus, on_batch: Callable[[Sequence[Event]], None], *, service: str = "tests", patterns: Sequence[str] = ("#",)
) -> Iterator[None]:
    """Subscribe in a thread for the length of a block."""
    with running(lambda stop: bus.subscribe(service, patterns, on_batch, stop=stop)):
        yield


@contextlib.contextmanager
def running(loop: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=loop, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "the loop did not stop"


class Actor:
    """A process of this file, and what it has written."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self.log = log
        self.log.touch()
        self.process = subprocess.Popen([sys.executable, __file__, *map(str, arguments), str(log)])

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def acting(log: Path, *arguments: object) -> Iterator[Actor]:
    """Run an actor for the length of a block."""
    actor = Actor(log, *arguments)
    try:
        yield actor
    finally:
        actor.kill()


def _produce(url: str, name: str, count: str, log: str) -> None:
    """Publish events in batches of 16; log the ids of each batch when it is confirmed."""
    bus = connect(url)
    ids = [f"{name}-{i}" for i in range(int(count))]
    for start in range(0, len(ids), 16):
        batch = ids[start : start + 16]
        bus.publish([make_started(id) for id in batch])
        _write(log, batch)


def _consume(url: str, service: str, pause_s: str, log: str) -> None:
    """Log the ids of the events that come; hold each batch for pause_s before it is acknowledged."""

    def on_batch(events: Sequence[Event]) -> None:
        _write(log, [event.id for event in events])
        time.sleep(float(pause_s))

    connect(url).subscribe(service, ["#"], on_batch, stop=threading.Event(), max_batch=32)


def _listen(url: str, log: str) -> None:
    connect(url).listen(["#"], lambda key, _: _write(log, [key]), stop=threading.Event())


def _work(url: str, num_slots: str, seconds: str, log: str) -> None:
    """A Celery worker, set up as the runtime does it."""
    warnings.simplefilter("ignore")  # Celery's advice about running as root
    app = make_app(url, queues=command_queues(["training"], ["cpu"]))

    @app.task(name=EXECUTE_TASK, bind=True)  # type: ignore[untyped-decorator]  # celery ships no types
    def execute(task: object, payload: dict[str, object]) -> None:
        command = ExecuteAttempt.model_validate(payload)
        trace = getattr(task, "request").get("traceparent")  # noqa: B009  # celery's, untyped
        _write(log, [f"start {command.attempt_id} {trace}"])
        time.sleep(float(seconds))
        _write(log, [f"end {command.attempt_id}"])

    app.Worker(concurrency=int(num_slots), quiet=True, **WORKER_OPTIONS).start()


def _write(log: str, lines: Sequence[str]) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, "".join(f"{line}\n" for line in lines).encode())
    os.close(fd)


if __name__ == "__main__":
    actors: dict[str, Callable[..., None]] = {
        "produce": _produce,
        "consume": _consume,
        "listen": _listen,
        "work": _work,
    }
    actors[sys.argv[1]](*sys.argv[2:])
