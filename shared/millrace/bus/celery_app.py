"""The Celery application of all workers: one task, late acknowledgement, JSON only, no chatter between workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery import Celery, signals
from kombu import Queue

from millrace.bus import topology
from millrace.bus.connect import HEARTBEAT_S, broker_url, tls_options

WORKER_OPTIONS: dict[str, object] = {
    "pool": "threads",  # prefork forbids children of its own and breaks CUDA; a thread supervises a child process
    "without_gossip": True,
    "without_mingle": True,
    "without_heartbeat": True,  # ours is a signal, `worker.<id>.heartbeat`
}
"""Keyword arguments of `app.Worker` that belong to the settings below."""


def make_app(url: str, *, queues: Sequence[Queue] = ()) -> Celery:
    """Return the Celery application for a broker.

    Args:
        url: As for `connect`.
        queues: What its workers consume, as `command_queues` gives them.

    Raises:
        InvalidInput: The URL is of another kind.
    """
    app = Celery("millrace", broker=broker_url(url), set_as_current=False)
    app.conf.update(
        task_queues=list(queues) or None,
        task_create_missing_queues=False,
        task_acks_late=True,  # the command leaves the queue when its terminal event is confirmed, not before
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,  # a command that waits behind a long one is a command another worker could do
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        broker_use_ssl=tls_options(url),
        broker_heartbeat=HEARTBEAT_S,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever: a broker that is away comes back
        broker_transport_options={"confirm_publish": True} if url.startswith("amqp") else {},
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,  # control goes by signals, which need no queue that outlives a worker
        worker_send_task_events=False,
        worker_detect_quorum_queues=True,
        worker_consumer="millrace.bus.celery_consumer:CommandConsumer",
        enable_utc=True,
    )
    return app


def command_queues(services: Iterable[str], classes: Iterable[str]) -> list[Queue]:
    """The queues a worker of these services consumes for these resource classes."""
    wanted = list(classes)
    return [topology.commands_queue(service, resource_class) for service in services for resource_class in wanted]


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # celery ships no types
def _leave_logging_alone(**_: object) -> None:
    """A receiver is what keeps Celery from configuring logging; the runtime has done so."""
