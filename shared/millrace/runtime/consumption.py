"""Celery in this process: commands from the queues to a function, one thread a slot, acknowledged when it returns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.exceptions import Reject
from celery.worker import state

from millrace.bus.celery_app import WORKER_OPTIONS, command_queues, make_app
from millrace.bus.celery_consumer import CommandConsumer
from millrace.contracts.commands import EXECUTE_TASK

Deliver = Callable[[Mapping[str, Any], bool], bool]
"""Takes a command's JSON and whether it was delivered before; True acknowledges it, False leaves it to the broker."""

_FLUSH_S = 0.05
"""Celery hands an acknowledgement to its loop just after the task has returned."""


class _Consumer(CommandConsumer):
    """The consumer of commands, whose acknowledgements never meet on one connection.

    With an event loop they are its main thread's; without one, each slot's thread sends its own, which py-amqp and
    the embedded transport take one at a time.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._acknowledging = threading.Lock()
        super().__init__(*arguments, **options)

    def call_soon_ack(self, callback: Any, *arguments: Any, **options: Any) -> Any:
        with self._acknowledging:
            return super().call_soon_ack(callback, *arguments, **options)


class Consumption:
    """Consumes the command queues of some services and one resource class."""

    def __init__(
        self, url: str, services: Sequence[str], resource_class: str, *, name: str, slots: int, deliver: Deliver
    ) -> None:
        app = make_app(url, queues=command_queues(services, [resource_class]))

        def execute(task: Any, body: Mapping[str, Any]) -> None:
            if not deliver(body, bool(task.request.delivery_info.get("redelivered"))):
                raise Reject(requeue=True)

        app.task(name=EXECUTE_TASK, bind=True, acks_late=True, ignore_result=True)(execute)
        state.should_stop = None
        self.is_ready = threading.Event()
        self._controller = app.WorkController(
            hostname=f"{name}@millrace", concurrency=slots, loglevel="WARNING", consumer_cls=_Consumer,
            ready_callback=lambda _: self.is_ready.set(), **WORKER_OPTIONS,
        )  # fmt: skip

    def run(self) -> None:
        """Consume until `shut_down`; blocks, and reconnects by itself."""
        self._controller.start()

    def stop_taking(self) -> None:
        """Take no further command. What is being worked on goes on, and is acknowledged as ever."""
        consumer = self._controller.consumer
        if consumer is not None and consumer.task_consumer is not None:
            consumer.call_soon(consumer.task_consumer.cancel)

    def shut_down(self) -> None:
        """Let `run` return; the slots are idle by now. May be called from any thread."""
        consumer = self._controller.consumer
        if consumer is None:  # it was not begun, and will end as it begins
            state.should_stop = 0
            return
        if consumer.hub is not None:  # a loop sends acknowledgements in its next turn: let that turn pass
            flushed = threading.Event()
            time.sleep(_FLUSH_S)
            consumer.call_soon(flushed.set)
            flushed.wait(timeout=1)
        state.should_stop = 0
        if consumer.hub is not None:
            consumer.call_soon(int)  # wakes the loop, which looks at `should_stop`
        else:
            _end_waiting(consumer.connection)


def _end_waiting(connection: Any) -> None:
    """Celery without an event loop waits two seconds for a message at a time, and once more before it ends."""
    if connection is not None and connection.connected:
        connection.connection.wait_no_more()
