"""The seam to the broker: commands by Celery, events and signals by kombu, over RabbitMQ or embedded SQLite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import Event


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message set aside after its last attempt.

    Attributes:
        queue: The queue that gave it up.
        reason: `delivery_limit`, `rejected`, `expired` or `maxlen`.
        command: What it asked, if it is a command that can be read.
        event: What it said, if it is an event that can be read.
        body: The message as text, at most 64 KiB of it.
    """

    queue: str
    reason: str
    command: ExecuteAttempt | None
    event: Event | None
    body: str


class Bus(Protocol):
    """One per process, thread-safe, never used across a fork. Delivery is at least once; order is not promised.

    All methods that reach the broker raise Unavailable after a bounded time, and Unauthorized when it refuses the
    credentials; both name what to do and never hold a password.
    """

    def send(self, commands: Sequence[ExecuteAttempt], *, events: Sequence[Event] = ()) -> None:
        """Put commands on the queues of their service and resource class, durably; all are confirmed on return.

        Args:
            commands: May be empty.
            events: To publish after them, in the same round of confirms.

        Raises:
            Unavailable: The broker did not confirm them all in time. Some may have been taken: send all again.
        """

    def publish(self, events: Sequence[Event]) -> None:
        """Tell all subscribers, durably; all events are confirmed on return. Routing key: the event's type.

        Raises:
            Unavailable: The broker did not confirm them all in time. Some may have been taken: publish all again,
                under the same ids.
        """

    def signal(self, key: str, payload: Mapping[str, Any]) -> None:
        """Tell whoever listens just now. Best effort: never waits for a listener, never raises for the broker."""

    def declare(self, service: str, patterns: Sequence[str]) -> None:
        """Make a service's event queue, so that events are kept from now on, before the service subscribes."""

    def declare_commands(self, service: str, resource_class: str) -> None:
        """Make a command queue; sending and working both do so by themselves."""

    def subscribe(
        self,
        service: str,
        patterns: Sequence[str],
        on_batch: Callable[[Sequence[Event]], None],
        *,
        stop: threading.Event,
        max_batch: int = 64,
    ) -> None:
        """Hand the service's events to on_batch until stop is set; blocks, and reconnects by itself.

        A batch is acknowledged after on_batch returns. If on_batch raises an error that another attempt can help
        (`retryable`), the same batch is tried again, more and more slowly. After any other exception each event of it
        is tried alone; one that keeps failing becomes a dead letter at the delivery limit, and the others go on.

        Raises:
            Unauthorized: The broker refuses the credentials from the start; reconnecting cannot help.
        """

    def listen(
        self, patterns: Sequence[str], on_signal: Callable[[str, dict[str, Any]], None], *, stop: threading.Event
    ) -> None:
        """Hand signals to on_signal(key, payload) until stop is set; blocks, and reconnects by itself.

        The queue is private, bounded (the oldest are forgotten) and gone with its owner. An exception of on_signal
        is logged, and the signal is dropped.

        Raises:
            Unauthorized: As for subscribe.
        """

    def subscribe_dead(
        self, on_letters: Callable[[Sequence[DeadLetter]], None], *, stop: threading.Event, max_batch: int = 64
    ) -> None:
        """Hand dead letters over and forget them, as subscribe does with events."""

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Look at the oldest dead letters and leave them where they are."""

    def queue_depth(self, queue: str) -> int:
        """Messages that wait in a queue, those being worked on left out; 0 if there is no such queue."""

    def check(self) -> None:
        """Raise Unavailable or Unauthorized, with a remedy, unless the broker answers."""

    def close(self) -> None:
        """Close what send, publish and signal opened. Loops end by their own stop."""
