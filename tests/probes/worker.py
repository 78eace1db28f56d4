"""A real worker process on an embedded bus, and the test in the conductor's place."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import AttemptStarted, Event, decode
from millrace.contracts.ids import attempt_id, new_run_id
from millrace.settings import Settings

PLUGIN = Path(__file__).parent / "plugin"
TIMEOUT_S = 60

E = TypeVar("E", bound=Contract)
Told = dict[str, list[dict[str, Any]]]


def probe_env(settings: Settings, **more: str) -> dict[str, str]:
    """Environment of a process that has the probe installed and works for these settings."""
    return {
        **os.environ, "PYTHONPATH": str(PLUGIN), "MILLRACE_HOME": str(settings.home), "MILLRACE_HEARTBEAT_S": "0.2",
        "MILLRACE_SLOTS": "2", "MILLRACE_METRICS_PORT": "-1", "MILLRACE_BROKER_URL": settings.broker_url, **more,
    }  # fmt: skip


@dataclass
class Factory:
    """A worker process, and what it says."""

    settings: Settings
    bus: Bus
    env: dict[str, str]
    events: queue.Queue[Event] = field(default_factory=queue.Queue)
    signals: queue.Queue[tuple[str, dict[str, Any]]] = field(default_factory=queue.Queue)
    process: subprocess.Popen[bytes] | None = None

    def hear(self, batch: Sequence[Event]) -> None:
        for event in batch:
            self.events.put(event)

    def forget(self) -> None:
        """Nothing that was heard until now is waited for any more."""
        for heard in (self.events, self.signals):
            with contextlib.suppress(queue.Empty):
                while True:
                    heard.get_nowait()

    def start(self) -> None:
        command = [sys.executable, "-m", "millrace.runtime.service", "worker", "probe", "functions", "--classes", "cpu"]
        self.process = subprocess.Popen(command, env=self.env, start_new_session=True)
        self.wait_signal("heartbeat")

    def send(self, **fields: Any) -> ExecuteAttempt:
        command = make_command(**fields)
        self.bus.send([command])
        return command

    def wait_event(self, cls: type[E], *, run_id: str = "") -> E:
        """The next event (of a run), which must be of this type.

        That an attempt started, which short ones do not say, is passed over.
        """
        event = self.next_event()
        while (isinstance(event, AttemptStarted) and cls is not AttemptStarted) or (
            run_id and getattr(event, "run_id", "") != run_id
        ):
            event = self.next_event()
        assert isinstance(event, cls), event
        return event

    def next_event(self) -> Contract:
        return decode(self.events.get(timeout=TIMEOUT_S))

    def wait_signal(self, ending: str, *, matching: str = "") -> dict[str, Any]:
        """The next signal whose key ends so and whose payload's text has these letters."""
        while True:
            key, payload = self.signals.get(timeout=TIMEOUT_S)
            if key.endswith(ending) and matching in str(payload):
                return payload

    def wait_signals(self, run_id: str, enough: Callable[[Told], bool]) -> Told:
        """What a run's attempt signals, by kind, until it is enough; kinds come in any order, lines in any number of pieces."""
        told: Told = {"progress": [], "metric": [], "log": []}
        while not enough(told):
            key, payload = self.signals.get(timeout=TIMEOUT_S)
            _, run, kind = [*key.split("."), "", ""][:3]
            if run == run_id and kind in told:
                told[kind].append(payload["payload"])
        return told

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=TIMEOUT_S)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=TIMEOUT_S)


def make_command(**fields: Any) -> ExecuteAttempt:
    """A command for the probe: `do`, `path`, ... are its configuration, other fields the command's own."""
    own = {name: fields.pop(name) for name in list(fields) if name in ExecuteAttempt.model_fields}
    run_id = own.pop("run_id", new_run_id())
    fence = own.pop("fence", 1)
    phase, index = own.pop("phase", "plan"), own.pop("index", 0)
    defaults = {"stage": "probe", "kind": "probe", "service": "probe", "config": fields, "outputs": {"result": "any"}}
    return ExecuteAttempt(
        run_id=run_id, fence=fence, phase=phase, index=index,
        attempt_id=attempt_id(run_id, "probe", phase, index, fence), **{**defaults, **own},
    )  # fmt: skip


@contextmanager
def running_factory(settings: Settings, **env: str) -> Iterator[Factory]:
    """A worker that is ready, until the block ends; its events and signals are heard from the start."""
    factory = Factory(settings, connect(settings.broker), probe_env(settings, **env))
    stop = threading.Event()
    factory.bus.declare("test", ["attempt.#"])
    threads = [
        threading.Thread(target=factory.bus.subscribe, args=("test", ["attempt.#"]), kwargs={
            "on_batch": factory.hear, "stop": stop}),
        threading.Thread(target=factory.bus.listen, args=(["worker.#", "attempt.#"],), kwargs={
            "on_signal": lambda key, payload: factory.signals.put((key, payload)), "stop": stop}),
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    try:
        factory.start()
        yield factory
    finally:
        if factory.process is not None and factory.process.poll() is None:
            factory.kill()
        stop.set()
        for thread in threads:
            thread.join(timeout=10)
        factory.bus.close()


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
