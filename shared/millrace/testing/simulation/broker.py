"""The broker in memory: durable queues, deliveries that repeat, dead letters, and signals to whoever listens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from millrace import errors
from millrace.bus import DeadLetter
from millrace.bus.embedded.routing import matches
from millrace.bus.topology import DELIVERY_LIMIT, events_queue_name
from millrace.contracts.commands import ExecuteAttempt, command_queue
from millrace.contracts.events import Event
from millrace.testing.simulation.clock import Clock
from millrace.testing.simulation.process import Process

LATENCY_S = (0.0005, 0.005)
RETRY_S = (0.1, 0.5, 2.0, 5.0)
"""Waits before a batch is handed over again to a consumer that cannot handle it now."""

POISON_PAUSE_S = 1.0
DEAD = "dead.v1"

Handle = Callable[[Sequence[Any]], None]


@dataclass(slots=True, eq=False)
class Letter:
    """A message in a queue.

    Attributes:
        deliveries: How often it was handed over and came back.
        is_alone: Whether it is to be handed over by itself, because a batch with it failed.
    """

    body: Any
    deliveries: int = 0
    is_alone: bool = False


@dataclass(slots=True, eq=False)
class Subscriber:
    """Who takes batches of a queue; one batch at a time."""

    process: Process
    handle: Handle
    max_batch: int
    batch: list[Letter] = field(default_factory=list)
    is_waiting: bool = False


class MemoryQueue:
    """A durable queue. Whatever its consumer's death leaves unacknowledged comes back, at the front."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.name = name
        self.ready: deque[Letter] = deque()
        self.subscribers: list[Subscriber] = []
        self.takers: list[Callable[[], None]] = []
        self.num_unacknowledged = 0
        self._broker = broker

    def put(self, letter: Letter) -> None:
        self.ready.append(letter)
        self.announce()

    def announce(self) -> None:
        """Tell whoever takes from it that there is something, or again room for it."""
        for subscriber in self.subscribers:
            self._offer(subscriber)
        for take in list(self.takers):
            take()

    def take(self) -> Letter | None:
        """Hand the oldest message to a worker, who acknowledges it or puts it back."""
        if not self.ready or self._broker.is_away:
            return None
        self.num_unacknowledged += 1
        return self.ready.popleft()

    def acknowledge(self) -> None:
        self.num_unacknowledged -= 1

    def put_back(self, letters: Sequence[Letter]) -> None:
        """Return messages that were not acknowledged; one that returned too often is dead."""
        self.num_unacknowledged -= len(letters)
        for letter in reversed(letters):
            letter.deliveries += 1
            if letter.deliveries > DELIVERY_LIMIT:
                self._broker.bury(self.name, letter)
            else:
                self.ready.appendleft(letter)
        self._broker.clock.after(self._broker.latency(), self.announce)

    def subscribe(self, subscriber: Subscriber) -> None:
        self.subscribers.append(subscriber)
        subscriber.process.on_death.append(lambda: self._forget(subscriber))
        self._offer(subscriber)

    def _forget(self, subscriber: Subscriber) -> None:
        self.subscribers.remove(subscriber)
        left, subscriber.batch = subscriber.batch, []
        self.put_back(left)

    def _offer(self, subscriber: Subscriber) -> None:
        if subscriber.batch or subscriber.is_waiting or not self.ready or self._broker.is_away:
            return
        subscriber.is_waiting = True  # for what comes within the latency: it goes into one batch
        subscriber.process.after(self._broker.latency(), lambda: self._deliver(subscriber))

    def _deliver(self, subscriber: Subscriber) -> None:
        subscriber.is_waiting = False
        if self._broker.is_away or not self.ready:
            return
        while self.ready and len(subscriber.batch) < subscriber.max_batch:
            if subscriber.batch and (self.ready[0].is_alone or subscriber.batch[-1].is_alone):
                break
            subscriber.batch.append(self.ready.popleft())
        self.num_unacknowledged += len(subscriber.batch)
        self._handle(subscriber, 0)

    def _handle(self, subscriber: Subscriber, num_tries: int) -> None:
        try:
            subscriber.handle([letter.body for letter in subscriber.batch])
        except Exception as error:
            if isinstance(error, errors.MillraceError) and error.retryable:
                pause_s = RETRY_S[min(num_tries, len(RETRY_S) - 1)]
                subscriber.process.after(pause_s, lambda: self._handle(subscriber, num_tries + 1))
                return
            self._broker.faults.append(error)
            left, subscriber.batch = subscriber.batch, []
            for letter in left:
                letter.deliveries -= len(left) > 1  # only one that fails by itself is on its way to death
                letter.is_alone = True
            subscriber.process.after(POISON_PAUSE_S, lambda: self.put_back(left))
            return
        self.num_unacknowledged -= len(subscriber.batch)
        subscriber.batch = []
        self._offer(subscriber)


class Broker:
    """What all processes share: queues, bindings, listeners.

    Attributes:
        is_away: While it is, nothing is taken and nothing delivered; whatever it holds it keeps.
        heard: Ids of all events that were ever published, as a subscriber of everything would know them.
        faults: What consumers raised that no other try can help.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self.clock = clock
        self.is_away = False
        self.heard: set[str] = set()
        self.faults: list[Exception] = []
        self._random = random
        self._queues: dict[str, MemoryQueue] = {}
        self._bindings: dict[str, tuple[str, ...]] = {}
        self._listeners: list[tuple[tuple[str, ...], Process, Callable[[str, dict[str, Any]], None]]] = []

    @property
    def queues(self) -> Mapping[str, MemoryQueue]:
        return self._queues

    def queue(self, name: str) -> MemoryQueue:
        if name not in self._queues:
            self._queues[name] = MemoryQueue(self, name)
        return self._queues[name]

    def bind(self, name: str, patterns: Sequence[str]) -> MemoryQueue:
        self._bindings[name] = tuple(patterns)
        return self.queue(name)

    def latency(self) -> float:
        return self._random.uniform(*LATENCY_S)

    def publish(self, event: Event) -> None:
        self.heard.add(event.id)
        for name, patterns in self._bindings.items():
            if any(matches("topic", pattern, event.type) for pattern in patterns):
                self.queue(name).put(Letter(event))

    def signal(self, key: str, payload: Mapping[str, Any]) -> None:
        if self.is_away:
            return
        for patterns, process, on_signal in self._listeners:
            if process.is_alive and any(matches("topic", pattern, key) for pattern in patterns):
                process.after(self.latency(), lambda hear=on_signal: hear(key, dict(payload)))  # type: ignore[misc]  # bound now

    def listen(
        self, patterns: Sequence[str], process: Process, on_signal: Callable[[str, dict[str, Any]], None]
    ) -> None:
        listener = (tuple(patterns), process, on_signal)
        self._listeners.append(listener)
        process.on_death.append(lambda: self._listeners.remove(listener))

    def bury(self, queue: str, letter: Letter) -> None:
        body = letter.body
        dead = DeadLetter(
            queue=queue, reason="delivery_limit", command=body if isinstance(body, ExecuteAttempt) else None,
            event=body if isinstance(body, Event) else None, body=str(body)[:1000],
        )  # fmt: skip
        self.queue(DEAD).put(Letter(dead))

    def come_back(self) -> None:
        self.is_away = False
        for queue in self._queues.values():
            queue.announce()


class MemoryBus:
    """Implements `millrace.bus.Bus` for one process. `subscribe` and its like return at once: the clock drives them."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process

    def send(self, commands: Sequence[ExecuteAttempt], *, events: Sequence[Event] = ()) -> None:
        self.check()
        for command in commands:
            self._broker.queue(command_queue(command.service, command.resource_class)).put(Letter(command))
        for event in events:
            self._broker.publish(event)

    def publish(self, events: Sequence[Event]) -> None:
        self.check()
        for event in events:
            self._broker.publish(event)

    def signal(self, key: str, payload: Mapping[str, Any]) -> None:
        self._broker.signal(key, payload)

    def declare(self, service: str, patterns: Sequence[str]) -> None:
        self.check()
        self._broker.bind(events_queue_name(service), patterns)

    def declare_commands(self, service: str, resource_class: str) -> None:
        self.check()
        self._broker.queue(command_queue(service, resource_class))

    def subscribe(
        self,
        service: str,
        patterns: Sequence[str],
        on_batch: Callable[[Sequence[Event]], None],
        *,
        stop: threading.Event,  # noqa: ARG002 - a process that stops is dead
        max_batch: int = 64,
    ) -> None:
        queue = self._broker.bind(events_queue_name(service), patterns)
        queue.subscribe(Subscriber(self._process, on_batch, max_batch))

    def subscribe_dead(
        self,
        on_letters: Callable[[Sequence[DeadLetter]], None],
        *,
        stop: threading.Event,  # noqa: ARG002
        max_batch: int = 64,
    ) -> None:
        self._broker.queue(DEAD).subscribe(Subscriber(self._process, on_letters, max_batch))

    def listen(
        self,
        patterns: Sequence[str],
        on_signal: Callable[[str, dict[str, Any]], None],
        *,
        stop: threading.Event,  # noqa: ARG002
    ) -> None:
        self._broker.listen(patterns, self._process, on_signal)

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return [letter.body for letter in list(self._broker.queue(DEAD).ready)[:limit]]

    def queue_depth(self, queue: str) -> int:
        return len(self._broker.queue(queue).ready)

    def check(self) -> None:
        if self._broker.is_away:
            raise errors.Unavailable("The broker is away.")

    def close(self) -> None:
        """Nothing is open."""
