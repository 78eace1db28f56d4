"""The loops behind subscribe and listen: consume in batches, survive the broker, set poison aside."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog
from kombu import Connection, Consumer, Queue
from kombu.message import Message

from millrace import errors
from millrace.bus import faults, links, topology

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

_TICK_S = 0.25
"""How soon a loop sees that it shall stop. Messages wake it at once."""

_GATHER_S = 0.01
"""How long a loop that gathers lets messages come together, while several come at a time. One alone never waits."""

_POISON_PAUSE_S = 0.05
"""Between tries of a message that fails, so that its way to the dead letters is not a busy loop."""

_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RECONNECT_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class BatchConsumer(Generic[Item]):
    """Consumes one queue until told to stop.

    Args:
        url: For error messages.
        open_connection: Makes a connection that is not yet established.
        make_queue: Names the queue; called and declared on each connection.
        decode: Raises ValueError for a message that can never be read; it becomes a dead letter at once.
        on_batch: Called from the thread of `run`.
        max_batch: Messages in one call, and unacknowledged at once. 0: no acknowledgement, and no limit; on_batch must
            not raise then.
        gathers: Whether a call costs much more than a message does: what comes soon after one another shares a call.
    """

    def __init__(
        self,
        url: str,
        open_connection: Callable[[], Connection],
        *,
        make_queue: Callable[[], Queue],
        decode: Callable[[Message], Item],
        on_batch: Callable[[Sequence[Item]], None],
        max_batch: int,
        stop: threading.Event,
        gathers: bool = False,
    ) -> None:
        self._url = url
        self._open_connection = open_connection
        self._make_queue = make_queue
        self._name = ""
        self._decode = decode
        self._on_batch = on_batch
        self._max_batch = max_batch
        self._stop = stop
        self._gathers = gathers
        self._is_busy = False
        self._waiting: deque[Message] = deque()
        self._was_connected = False

    def run(self) -> None:
        """Consume until stop is set.

        Raises:
            Unauthorized, Conflict, ResourceExhausted, Corrupt: The broker cannot be used; trying again cannot help.
                Raised before the first connection only: what worked once may work again.
        """
        num_failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            connection, is_broken = self._open_connection(), False
            try:
                self._consume(connection)
            except faults.DRIVER_ERRORS as error:
                is_broken = True
                num_failures = 0 if time.monotonic() - started > 10 else num_failures + 1
                fault = faults.translate(error, self._url)
                if not fault.retryable and not self._was_connected:
                    raise fault from error
                log.warning("broker_lost", queue=self._name, reason=fault.message)
                self._stop.wait(_step(_RECONNECT_S, num_failures))
            finally:
                self._waiting.clear()  # they are redelivered
                links.close(connection, is_broken=is_broken)

    def _consume(self, connection: Connection) -> None:
        links.establish(connection)
        channel, queue = connection.channel(), self._make_queue()
        topology.declare(queue, channel)
        self._name, self._was_connected = queue.name, True
        consumer = Consumer(
            channel, queues=[queue], on_message=self._waiting.append, no_ack=self._max_batch == 0,
            prefetch_count=self._max_batch or None, auto_declare=False,
        )  # fmt: skip
        with consumer:
            while not self._stop.is_set():
                self._fill(connection)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch or 256))]
                self._is_busy = len(batch) > 1
                if batch:
                    self._handle(connection, batch)

    def _fill(self, connection: Connection) -> None:
        """Wait for a message, then take along what is there already."""
        timeout_s = 0.0 if self._waiting else _TICK_S
        if self._gathers and self._is_busy:
            time.sleep(_GATHER_S)
        while len(self._waiting) < (self._max_batch or 256):
            try:
                connection.drain_events(timeout=timeout_s)
            except TimeoutError:
                break
            timeout_s = 0.0
        connection.heartbeat_check()

    def _handle(self, connection: Connection, batch: list[Message]) -> None:
        """Call on_batch and settle the messages; one at a time if the batch as a whole fails."""
        readable = [(message, item) for message in batch for item in self._read(message)]
        if not readable:
            return
        num_tries = 0
        while not self._stop.is_set():
            try:
                self._on_batch([item for _, item in readable])
            except Exception as error:
                if isinstance(error, errors.MillraceError) and error.retryable:
                    log.warning("batch_delayed", queue=self._name, reason=error.message, tries=num_tries)
                    self._pause(connection, _step(_RETRY_S, num_tries))
                    num_tries += 1
                    continue
                self._isolate(connection, [message for message, _ in readable], error)
            else:
                self._acknowledge([message for message, _ in readable])
            return

    def _isolate(self, connection: Connection, batch: list[Message], error: Exception) -> None:
        """Find the message that fails: each alone; put that one back, to fail again until it is a dead letter."""
        if len(batch) == 1:
            is_first = not batch[0].headers.get("x-delivery-count")
            log.error("message_failed", queue=self._name, message_id=batch[0].properties.get("message_id"),
                      reason=str(error), exc_info=error if is_first else None)  # fmt: skip
            self._pause(connection, _POISON_PAUSE_S)
            batch[0].reject(requeue=True)
        else:
            for message in batch:
                self._handle(connection, [message])

    def _read(self, message: Message) -> list[Item]:
        try:
            return [self._decode(message)]
        except ValueError as error:
            log.error("message_unreadable", queue=self._name, reason=str(error)[:500])
            if self._max_batch:
                message.reject(requeue=False)
            return []

    def _acknowledge(self, messages: list[Message]) -> None:
        if self._max_batch:
            # All earlier ones are settled: tags grow in the order of delivery, and batches are taken in that order.
            messages[-1].ack(multiple=True)

    def _pause(self, connection: Connection, seconds: float) -> None:
        """Wait without letting the connection die."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self._stop.wait(min(1.0, left))
            connection.heartbeat_check()


def _step(steps: Sequence[float], number: int) -> float:
    return steps[min(number, len(steps) - 1)]
