"""Celery's consumer without its native delayed delivery: that declares 28 queues for ETAs, and our timers are elsewhere."""

from __future__ import annotations

from celery.worker.consumer import Consumer


class CommandConsumer(Consumer):  # type: ignore[misc]  # celery ships no types
    """What a worker consumes commands with; named in the application's `worker_consumer`."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Celery's own steps, less one."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if "DelayedDelivery" not in step)
