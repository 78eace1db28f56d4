"""A real gateway process for tests, and a stand-in worker that says what workers say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from millrace.bus.connect import connect
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ErrorInfo,
    Holder,
    StageOutputs,
    make_event,
)
from millrace.contracts.ids import new_id
from millrace.ledger import tasks
from millrace.ledger.ledger import open_ledger
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace_conductor.handlers import holder_of
from millrace_conductor.service import Conductor

START_LIMIT_S = 30.0
WORKER = "worker_t"
COMMAND = [sys.executable, "-m", "millrace.runtime.service", "gateway"]


def gateway_environment(home: Path, **variables: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MILLRACE_")}
    return {**plain, "MILLRACE_HOME": str(home), "MILLRACE_GATEWAY_PORT": "0", **variables}


@contextmanager
def running_gateway(home: Path, **variables: str) -> Iterator[str]:
    """Start a gateway, yield its URL, stop it as a supervisor would; it must end cleanly."""
    process = subprocess.Popen(COMMAND, env=gateway_environment(home, **variables), stderr=subprocess.PIPE, text=True)
    try:
        yield announced_url(home, process)
    finally:
        process.terminate()
        _, output = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output


def announced_url(home: Path, process: subprocess.Popen[str]) -> str:
    """Wait until this process's gateway answers, and return its URL."""
    path, deadline = home / "run" / "gateway.json", time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            announced = json.loads(path.read_text())
            if announced["pid"] == process.pid and httpx.get(announced["url"] + "/healthz").is_success:
                return str(announced["url"])
        except (OSError, ValueError, httpx.HTTPError):
            pass
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the gateway did not start: {process.communicate()[1]}")


@dataclass
class Line:
    """A conductor in threads, and a voice for its workers, in a home that a gateway shares."""

    settings: Settings

    def __post_init__(self) -> None:
        self.bus = connect(self.settings.broker)
        self.store = open_store(self.settings)
        self.ledger = open_ledger(self.settings.database)
        self.conductor = Conductor(self.settings, ledger=self.ledger, bus=self.bus, store_of=lambda _: self.store)
        self.threads = [threading.Thread(target=self.conductor.run), threading.Thread(target=self._beat)]

    def __enter__(self) -> Line:
        self.bus.declare("conductor", ("attempt.#", "endpoint.reported.#"))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.conductor.stop.set()
        self.conductor.work.set()
        for thread in self.threads:
            thread.join(timeout=20)
        self.bus.close()
        self.ledger.close()

    def start(self, run_id: str, stage: str) -> Holder:
        """Wait until a stage's first task is dispatched, and say that its attempt began."""
        holder = self._dispatched(run_id, stage)
        self._say(AttemptStarted(run_id=run_id, stage=stage, phase="plan", index=0, holder=holder))
        return holder

    def _dispatched(self, run_id: str, stage: str) -> Holder:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            for task in tasks.all_open_tasks(self.conductor.database):
                if (task.key.run_id, task.key.stage, task.status) == (run_id, stage, "dispatched"):
                    found = holder_of(task)
                    return found.model_copy(update={"nonce": new_id("del"), "worker": WORKER})
            time.sleep(0.02)
        raise AssertionError(f"{stage} of {run_id} was not dispatched")

    def _beat(self) -> None:
        """Announce capacity, as a worker's heartbeats do."""
        services = ["cleaning", "training", "evaluation", "optimization", "deployment", "functions"]
        beat = {"worker_id": WORKER, "host": "here", "services": services, "classes": {"cpu": 8}, "busy": {}}
        while not self.conductor.stop.is_set():
            self.bus.signal(f"worker.{WORKER}.heartbeat", {**beat, "holders": [], "code": {}})
            self.conductor.stop.wait(0.3)

    def succeed(self, run_id: str, stage: str, holder: Holder, outputs: StageOutputs, logs: ArtifactRef | None) -> None:
        self._say(
            AttemptSucceeded(
                run_id=run_id, stage=stage, phase="plan", index=0, holder=holder, outputs=outputs, logs=logs
            )
        )

    def fail(self, run_id: str, stage: str, holder: Holder, error: ErrorInfo) -> None:
        self._say(AttemptFailed(run_id=run_id, stage=stage, phase="plan", index=0, holder=holder, error=error))

    def _say(self, data: AttemptEvent) -> None:
        self.bus.publish([make_event(data, source=f"worker/{WORKER}", subject=data.run_id)])
