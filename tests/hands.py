"""A worker by hand: takes commands from the broker and says what a test wants workers to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from kombu import Connection, Consumer
from kombu.message import Message

from millrace.bus import Bus, topology
from millrace.bus.connect import broker_url
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptEvent,
    AttemptStarted,
    AttemptSucceeded,
    Holder,
    RunSubmitted,
    StageOutputs,
    make_event,
)
from millrace.contracts.ids import new_id, new_run_id
from millrace.contracts.pipelines import Graph, GraphStage, Retry
from millrace.ledger.ledger import Ledger

SERVICE = "functions"
PLAN = ArtifactRef(digest="c" * 64, type="plan")


def chain(*names: str, **fields: Any) -> Graph:
    """A graph of stages, each of which needs the one before it."""
    stages = [
        GraphStage(
            name=name, kind="noop", service=SERVICE, config={}, inputs={}, outputs={},
            needs=names[n - 1 : n] if n else (), retry=Retry(backoff_s=0.0), **fields,
        )
        for n, name in enumerate(names)
    ]  # fmt: skip
    return Graph(pipeline="p", spec_digest="d" * 64, stages=tuple(stages))


def submit(ledger: Ledger, graph: Graph, **fields: Any) -> str:
    data = RunSubmitted(run_id=new_run_id(), graph=graph, **fields)
    return ledger.submit(make_event(data, source="client", subject=data.run_id)).run_id


def about(command: ExecuteAttempt, holder: Holder) -> dict[str, Any]:
    """What every event of a command's attempt says."""
    return {
        "run_id": command.run_id, "stage": command.stage, "phase": command.phase, "index": command.index,
        "round": command.round, "holder": holder,
    }  # fmt: skip


def started(command: ExecuteAttempt, holder: Holder) -> AttemptStarted:
    return AttemptStarted(**about(command, holder))


def succeeded(command: ExecuteAttempt, holder: Holder, *, num_tasks: int = 1) -> AttemptSucceeded:
    """The end of a plan, of a task or of a merge, of a stage with so many tasks."""
    if command.phase == "work":
        return AttemptSucceeded(**about(command, holder), result={"index": command.index})
    if command.phase == "plan" and num_tasks > 1:
        return AttemptSucceeded(**about(command, holder), plan=PLAN, num_tasks=num_tasks)
    return AttemptSucceeded(**about(command, holder), outputs=StageOutputs())


class Hand:
    """Takes every command of the service `functions`, in a thread.

    Args:
        work: Answers what to say of a delivery; None rejects it.
        slots: Announced in heartbeats, every 50 ms.
    """

    def __init__(
        self, bus: Bus, url: str, work: Callable[[ExecuteAttempt, Holder], Sequence[AttemptEvent] | None], *, slots: int = 8
    ) -> None:  # fmt: skip
        self.id = new_id("wrk")
        self.commands: list[ExecuteAttempt] = []
        self.holders: list[Holder] = []
        self.stopped: list[dict[str, Any]] = []
        self._bus, self._url, self._work, self._slots = bus, url, work, slots
        self._stop = threading.Event()
        loops = (self._take, self._beat, self._hear)
        self._threads = [threading.Thread(target=loop, name=loop.__name__) for loop in loops]

    def __enter__(self) -> Hand:
        self._bus.declare_commands(SERVICE, "cpu")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def say(self, *facts: AttemptEvent) -> None:
        self._bus.publish([make_event(f, source=f"worker/{self.id}", subject=f.run_id) for f in facts])

    def _take(self) -> None:
        with Connection(broker_url(self._url)) as connection:
            queue = topology.commands_queue(SERVICE, "cpu")
            with Consumer(connection, queues=[queue], on_message=self._deliver, prefetch_count=1):
                while not self._stop.is_set():
                    try:
                        connection.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    def _deliver(self, message: Message) -> None:
        command = ExecuteAttempt.model_validate(json.loads(message.body)[0][0])
        self.commands.append(command)
        holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce=new_id("del"), worker=self.id)
        facts = self._work(command, holder)
        if facts is None:
            message.reject(requeue=False)
            return
        if facts:
            self.say(*facts)
        message.ack()

    def _beat(self) -> None:
        while not self._stop.wait(0.05):
            beat = {
                "worker_id": self.id, "host": "here", "services": [SERVICE], "classes": {"cpu": self._slots}, "busy": {},
                "holders": [h.model_dump(mode="json") for h in self.holders], "code": {},
            }  # fmt: skip
            self._bus.signal(f"worker.{self.id}.heartbeat", beat)

    def _hear(self) -> None:
        def on_signal(_: str, payload: dict[str, Any]) -> None:
            self.stopped.extend(payload.get("stop", ()))

        self._bus.listen([f"control.worker.{self.id}", "control.all"], on_signal, stop=self._stop)
