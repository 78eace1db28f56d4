"""Publishing with confirms, in groups: what threads ask for while one batch is under way goes together in the next."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from kombu import Connection, Producer

from millrace import errors
from millrace.bus import faults, frames, links, topology
from millrace.bus.messages import Outgoing, wire_options

log = structlog.get_logger(__name__)

_CONFIRM_S = 5.0
"""How long one try waits for confirms before it takes the connection for dead."""

_QUIET_S = 1.0
"""After a failure, how long signals are dropped unsent: connecting to a host that is gone takes seconds each time."""

_LOOK_S = 0.1
"""How often, while signals go out, it is looked whether their broker has left."""

_BACKOFF_S = (0.1, 0.2, 0.4, 0.8)


class _Ticket:
    """One caller's messages and how they fared."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.is_done = False
        self.error: errors.MillraceError | None = None


class Publisher:
    """One connection for publishing, opened when needed and again when it broke. Thread-safe.

    Args:
        url: For error messages.
        open_connection: Makes a connection that is not yet established.
        confirms: Whether the broker confirms messages; False: `try_publish` alone is used.
    """

    def __init__(self, url: str, open_connection: Callable[[], Connection], *, confirms: bool = True) -> None:
        self._url = url
        self._open_connection = open_connection
        self._confirms = confirms
        self._turn = threading.Lock()
        self._queueing = threading.Lock()
        self._queue: list[_Ticket] = []
        self._session: _Session | None = None
        self._quiet_until = 0.0

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        """Return when the broker has confirmed them all.

        Raises:
            Unavailable, Unauthorized, ResourceExhausted: Not all were confirmed; the caller may publish all again.
        """
        if not messages:
            return
        ticket = _Ticket(messages)
        with self._queueing:
            self._queue.append(ticket)
        with self._turn:
            if not ticket.is_done:  # else whoever had the turn took it along
                with self._queueing:
                    group, self._queue = self._queue, []
                try:
                    unroutable = self._deliver([m for t in group for m in t.messages], timeout_s=timeout_s)
                except BaseException as error:
                    _settle(group, _failure_of(error), set())  # the others in the group must not take it for success
                    if not isinstance(error, errors.MillraceError):
                        raise
                else:
                    _settle(group, None, unroutable)
        if ticket.error is not None:
            raise ticket.error

    def try_publish(self, message: Outgoing) -> bool:
        """Publish without a confirm and without a second try; False if the broker does not answer."""
        with self._turn:
            if time.monotonic() < self._quiet_until:
                return False
            try:
                self._ready().publish_unconfirmed(message)
            except faults.DRIVER_ERRORS as error:
                self._drop()
                self._quiet_until = time.monotonic() + _QUIET_S
                log.debug("signal_dropped", reason=str(faults.translate(error, self._url)))
                return False
        return True

    def close(self) -> None:
        with self._turn:
            self._drop(is_broken=False)

    def _deliver(self, messages: Sequence[Outgoing], *, timeout_s: float) -> set[str]:
        """Publish in one batch, again and again until it succeeds or time is up; return the ids that reached no queue."""
        deadline = time.monotonic() + timeout_s
        for attempt in itertools.count():
            try:
                return self._ready().publish(messages, timeout_s=min(_CONFIRM_S, timeout_s))
            except (errors.MillraceError, *faults.DRIVER_ERRORS) as error:
                self._drop()
                failure = faults.translate(error, self._url)
                pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                if not failure.retryable or time.monotonic() + pause_s > deadline:
                    raise failure from error
            time.sleep(pause_s)
        raise AssertionError("unreachable: the loop ends by return or raise")

    def _ready(self) -> _Session:
        if self._session is None:
            self._session = _Session(self._open_connection(), confirms=self._confirms)
        return self._session

    def _drop(self, *, is_broken: bool = True) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(is_broken=is_broken)


class _Session:
    """One established connection: its channel, what it has declared, and the confirms it waits for."""

    def __init__(self, connection: Connection, *, confirms: bool) -> None:
        self._connection = connection
        try:
            links.establish(connection)
            self._channel = connection.channel()
        except BaseException:
            links.close(connection, is_broken=True)
            raise
        self._producer = Producer(self._channel, auto_declare=False)
        self._declared: set[str] = set()
        self._unconfirmed: set[int] = set()
        self._num_published = 0
        self._is_refused = False
        self._returned: set[str] = set()
        self._looked_at = time.monotonic()
        self._is_amqp = hasattr(self._channel, "confirm_select")  # the embedded transport's commit is its confirm
        self._confirms = confirms and self._is_amqp
        self._channel.events["basic_return"].add(self._on_return)
        if self._confirms:
            self._channel.confirm_select()
            self._channel.events["basic_ack"].add(self._on_ack)
            self._channel.events["basic_nack"].add(self._on_nack)

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> set[str]:
        """Publish and wait for all confirms; return the ids of messages that reached no queue."""
        self._returned = set()
        self._put(messages)
        deadline = time.monotonic() + timeout_s
        while self._unconfirmed:
            self._connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))
        if self._is_refused:
            raise errors.Unavailable(
                "the broker refused a message: its queue is full, or lost its majority.",
                remedy="Look at the queues with `millrace doctor`; start more workers, or the missing nodes.",
            )
        if self._returned:
            self._declared.clear()  # somebody deleted a queue
        return self._returned

    def publish_unconfirmed(self, message: Outgoing) -> None:
        self._put([message])
        now = time.monotonic()
        if self._is_amqp and now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            while self._drain_ready():
                pass  # what the broker says unasked: that it closes

    def close(self, *, is_broken: bool) -> None:
        links.close(self._connection, is_broken=is_broken)

    def _put(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            self._declare(message)
        if not self._is_amqp:
            with self._producer.batch(max_size=len(messages) + 1):
                for message in messages:
                    self._producer.publish(message.body, **wire_options(message))
            return
        if self._confirms:
            self._unconfirmed.update(range(self._num_published + 1, self._num_published + len(messages) + 1))
            self._num_published += len(messages)
        connection = self._channel.connection
        for piece in frames.published(messages, channel=self._channel.channel_id, frame_max=connection.frame_max):
            while len(piece) >= frames.PIECE_BYTES and self._drain_ready():
                pass  # of a long batch the broker may take no more while nobody reads its confirms
            connection.transport.write(piece)

    def _declare(self, message: Outgoing) -> None:
        name = message.exchange.name if message.queue is None else message.queue.name
        if name in self._declared:
            return
        if message.queue is None:
            message.exchange.bind(self._channel).declare()
        else:
            topology.declare(message.queue, self._channel)
        self._declared.add(name)

    def _drain_ready(self) -> bool:
        try:
            self._connection.drain_events(timeout=0)
        except TimeoutError:
            return False
        return True

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {tag for tag in self._unconfirmed if tag > delivery_tag}
        else:
            self._unconfirmed.discard(delivery_tag)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._is_refused = True
        self._on_ack(delivery_tag, multiple)

    def _on_return(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        properties = message["properties"] if isinstance(message, dict) else message.properties
        self._returned.add(str(properties.get("message_id", "")))


def _settle(group: list[_Ticket], failure: errors.MillraceError | None, unroutable: set[str]) -> None:
    for ticket in group:
        ticket.is_done = True
        ticket.error = failure or _unroutable(ticket, unroutable)


def _failure_of(error: BaseException) -> errors.MillraceError:
    if isinstance(error, errors.MillraceError):
        return error
    return errors.Unavailable("publishing was interrupted.", remedy="Publish again.")


def _unroutable(ticket: _Ticket, returned: set[str]) -> errors.MillraceError | None:
    lost = [message for message in ticket.messages if message.id in returned]
    if not lost:
        return None
    return errors.Unavailable(
        f"no queue takes {lost[0].routing_key}: {len(lost)} of {len(ticket.messages)} messages came back.",
        remedy="The queue was deleted meanwhile; sending again declares it anew.",
        num_returned=len(lost),
    )
