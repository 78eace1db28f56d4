"""Simulated workers and model servers: whole processes that take, beat, hear, drain, die and come back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.commands import command_queue
from millrace.contracts.events import AttemptYielded, EndpointDesired, EndpointReported, make_event
from millrace.runtime.announcer import subject
from millrace.store import Store
from millrace.testing.faults import Strikes
from millrace.testing.referenced import StoreOf
from millrace.testing.simulation.attempts import (
    ASK_EVERY_S,
    PUBLISH_PAUSE_S,
    Attempt,
    Execution,
    Wait,
    event_of,
    lost,
    new_attempt,
)
from millrace.testing.simulation.broker import Broker, Letter, MemoryQueue
from millrace.testing.simulation.pipelines import CODE
from millrace.testing.simulation.process import Process, Steps, Thread

LOOK_EVERY_S = 2.0
LOAD_S = 0.3


@dataclass(slots=True)
class _Delivery:
    """An attempt and the messages that it came by; none once the broker has taken them back."""

    attempt: Attempt
    queue: MemoryQueue
    letters: list[Letter]


@dataclass(slots=True)
class Offer:
    """What a worker serves."""

    services: Sequence[str]
    resource_class: str
    slots: int


class SimulatedWorker:
    """One worker process. Its successor is another one, with what this one left on its host."""

    def __init__(
        self, process: Process, broker: Broker, bus: Bus, store_of: StoreOf, strikes: Strikes, *,
        offer: Offer, failures: dict[str, int], heartbeat_s: float, left: Sequence[Attempt] = (),
    ) -> None:  # fmt: skip
        self.process = process
        self.offer = offer
        self.is_unheard = False
        self._broker, self._bus, self._store_of, self._strikes = broker, bus, store_of, strikes
        self._failures = failures
        self._heartbeat_s = heartbeat_s
        self._deliveries: dict[str, _Delivery] = {}
        self._stopped: set[tuple[str, int, str | None]] = set()
        self._is_draining = False
        self._queues = [broker.queue(command_queue(s, offer.resource_class)) for s in offer.services]
        for queue in self._queues:
            queue.takers.append(self._take)
        process.after(0.0, self._take)
        process.on_death.append(self._let_go)
        self._beating: Thread = process.spawn(self._beat())
        bus_keys = [f"control.worker.{process.name}", "control.all"]
        broker.listen(bus_keys, process, self._on_control)
        if left:
            process.spawn(self._speak_for(left))

    @property
    def attempts(self) -> list[Attempt]:
        return [d.attempt for d in self._deliveries.values()]

    def drain(self) -> None:
        """Take nothing more, hand back what runs, then end."""
        self._is_draining = True
        for attempt in self.attempts:
            attempt.ask("yield")
        self._end_if_idle()

    def lose_connection(self) -> None:
        """The broker takes back what it has handed out; this process does not know."""
        for delivery in self._deliveries.values():
            self._put_back(delivery)

    # --- deliveries

    def _take(self) -> None:
        self.process.call(self._take_now)

    def _take_now(self) -> None:
        for queue in self._queues:
            while len(self._deliveries) < self.offer.slots and not self._is_draining and (letter := queue.take()):
                self._accept(queue, letter)

    def _accept(self, queue: MemoryQueue, letter: Letter) -> None:
        for delivery in self._deliveries.values():
            if delivery.attempt.command == letter.body:  # it runs here already: the broker took it back meanwhile
                delivery.letters.append(letter)
                return
        attempt = new_attempt(letter.body, worker=self.process.name, was_delivered=letter.deliveries > 0)
        delivery = self._deliveries[attempt.holder.nonce] = _Delivery(attempt, queue, [letter])
        attempt.thread = self.process.spawn(self._deliver(delivery))

    def _deliver(self, delivery: _Delivery) -> Wait:
        attempt = delivery.attempt
        if not self._is_stopped(attempt):
            execution = Execution(self._bus, self._store_of(attempt.command.tenant), self._strikes, self._failures)
            if attempt.asks:
                self._beating.wake()
            if self._is_draining:
                yield from execution.say(attempt, AttemptYielded(**subject(attempt.command, attempt.holder)))
            else:
                yield from execution.steps(attempt)
        del self._deliveries[attempt.holder.nonce]
        for _ in delivery.letters:
            delivery.queue.acknowledge()
        self._end_if_idle()
        self._take_now()

    def _end_if_idle(self) -> None:
        if self._is_draining and not self._deliveries:
            self.process.after(0.0, self.process.kill)

    def _let_go(self) -> None:
        for queue in self._queues:
            queue.takers.remove(self._take)
        self.lose_connection()

    def _put_back(self, delivery: _Delivery) -> None:
        letters, delivery.letters = delivery.letters, []
        delivery.queue.put_back(letters)

    # --- signals

    def _beat(self) -> Steps:
        while True:
            if not self.is_unheard:
                self._bus.signal(f"worker.{self.process.name}.heartbeat", self._heartbeat())
            yield ASK_EVERY_S if any(a.asks and not a.is_held for a in self.attempts) else self._heartbeat_s

    def _heartbeat(self) -> dict[str, Any]:
        resource_class, slots = self.offer.resource_class, self.offer.slots
        return {
            "worker_id": self.process.name, "host": self.process.name, "services": list(self.offer.services),
            "classes": {resource_class: 0 if self._is_draining else slots},
            "busy": {resource_class: len(self._deliveries)},
            "holders": [{**a.holder.model_dump(), "asks": a.asks and not a.is_held} for a in self.attempts],
            "code": CODE,
        }  # fmt: skip

    def _on_control(self, _key: str, payload: Mapping[str, Any]) -> None:
        if self.is_unheard:
            return
        self._stopped |= {(o["attempt_id"], int(o["fence"]), o.get("nonce") or None) for o in payload.get("stop", ())}
        to_hold = {str(o["nonce"]) for o in payload.get("hold", ())}
        to_yield = {str(o["nonce"]) for o in payload.get("yield", ())}
        for attempt in self.attempts:
            nonce = attempt.holder.nonce
            if self._is_stopped(attempt):
                attempt.ask("stop")
            elif nonce in to_yield:
                attempt.ask("yield")
            elif nonce in to_hold and not attempt.is_held:
                attempt.is_held = True
                attempt.ask("")
        if payload.get("announce"):
            self._beating.wake()

    def _is_stopped(self, attempt: Attempt) -> bool:
        key = (attempt.holder.attempt_id, attempt.holder.fence)
        return (*key, None) in self._stopped or (*key, attempt.holder.nonce) in self._stopped

    def _speak_for(self, left: Sequence[Attempt]) -> Wait:
        """Say of the attempts that died with the worker before that they did."""
        for attempt in left:
            event = event_of(attempt.command.tenant, lost(attempt))
            while True:
                try:
                    self._bus.publish([event])
                    break
                except errors.MillraceError:
                    yield PUBLISH_PAUSE_S[-1]


@dataclass(slots=True)
class SimulatedServer:
    """A model server: reads the endpoints' refs, loads what is new, reports."""

    process: Process
    bus: Bus
    store: Store
    known: dict[str, int] = field(default_factory=dict)

    def steps(self) -> Wait:
        while True:
            with contextlib.suppress(errors.MillraceError):  # it looks again
                yield from self._look()
            yield LOOK_EVERY_S

    def _look(self) -> Wait:
        for name in list(self.store.list_refs("endpoints/")):
            ref = self.store.read_ref(name)
            if ref is None:
                continue
            desired = EndpointDesired.model_validate(ref.target)
            if desired.generation <= self.known.get(desired.name, 0):
                continue
            yield LOAD_S
            yield from self._report(desired)
            self.known[desired.name] = desired.generation

    def _report(self, desired: EndpointDesired) -> Wait:
        data = EndpointReported(
            name=desired.name, generation=desired.generation, server=self.process.name, url="http://server",
            status="ready" if desired.release else "stopped", run_id=desired.run_id,
        )  # fmt: skip
        event = make_event(data, source=f"server/{self.process.name}", subject=desired.name, tenant=self.store.tenant)
        while True:
            try:
                self.bus.publish([event])
                return
            except errors.MillraceError:
                yield PUBLISH_PAUSE_S[-1]
