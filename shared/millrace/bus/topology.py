"""Names and shapes of everything that is declared at the broker, the same on both transports.

Arguments of a queue are immutable at the broker: whoever changes one here must raise the version in the queue's name.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from kombu import Exchange, Queue, binding

from millrace.contracts.commands import command_queue

# Topic exchanges throughout: with a direct one, two Celery tasks with an ETA blocked a worker for 20 s.
COMMANDS = Exchange("millrace.commands", type="topic", durable=True)
EVENTS = Exchange("millrace.events", type="topic", durable=True)
SIGNALS = Exchange("millrace.signals", type="topic", durable=False, delivery_mode="transient")
DEAD = Exchange("millrace.dead", type="topic", durable=True)

DELIVERY_LIMIT = 20
"""Repeated deliveries after which a message is a dead letter; RabbitMQ 4's own default."""

CONSUMER_TIMEOUT_MS = 30 * 24 * 3600 * 1000
"""How long a worker may hold a command. RabbitMQ's default of 30 minutes makes the whole worker exit in the midst of a
training. RabbitMQ before 3.11.15 ignores the argument, so infra/rabbitmq/rabbitmq.conf says the same."""

MAX_SIGNALS = 1000
"""Signals that wait for one listener; the oldest are forgotten."""

_QUORUM: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD.name,
    # At least once needs reject-publish: a queue that drops its oldest cannot promise to hand over its dead.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
}


def commands_queue(service: str, resource_class: str) -> Queue:
    """The queue of one service's commands of one resource class."""
    name = command_queue(service, resource_class)
    return Queue(name, COMMANDS, routing_key=name, durable=True, queue_arguments=_QUORUM)


def events_queue(service: str, patterns: Sequence[str]) -> Queue:
    """A service's queue of the events whose type matches one of the patterns."""
    bindings = [binding(EVENTS, routing_key=pattern) for pattern in patterns]
    return Queue(events_queue_name(service), bindings=bindings, durable=True, queue_arguments=_QUORUM)


def events_queue_name(service: str) -> str:
    return f"events.{service}.v1"


def signals_queue(patterns: Sequence[str]) -> Queue:
    """A private queue, gone with its owner. Its name is new each time: after a lost connection the broker may hold on
    to the old one for a while."""
    bindings = [binding(SIGNALS, routing_key=pattern) for pattern in patterns]
    return Queue(
        f"signals.{uuid.uuid4().hex}", bindings=bindings, durable=False, exclusive=True, auto_delete=True, no_ack=True,
        queue_arguments={"x-max-length": MAX_SIGNALS},
    )  # fmt: skip


def dead_queue() -> Queue:
    """Where all dead letters wait. Looking at them returns them, which must not count towards a limit."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    return Queue("dead.v1", DEAD, routing_key="#", durable=True, queue_arguments=arguments)


def declare(queue: Queue, channel: Any) -> None:
    """Declare a queue with its exchanges and bindings; and first, if it has dead letters, where they go."""
    if "x-dead-letter-exchange" in (queue.queue_arguments or {}):
        dead_queue().bind(channel).declare()
    queue.bind(channel).declare()
