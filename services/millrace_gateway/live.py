"""Live signals: one listener per process, fanned out to any number of readers through bounded queues."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from millrace import errors
from millrace.bus import Bus

READERS = Gauge("millrace_gateway_stream_readers", "Event streams that are open now.")
DROPPED = Counter("millrace_gateway_signals_dropped_total", "Signals that slow readers lost.")

PATTERNS = ("attempt.#", "run.#")
RETRY_S = 2.0

log = structlog.get_logger()


class Reader:
    """One stream's view of a run: its newest signals, and a wake-up when anything happened. Lives in one event loop.

    Args:
        backlog: Signals kept.
        statuses: Of the run, of which alone there is to be word; None: whatever happened.
    """

    def __init__(self, backlog: int, statuses: Container[str] | None = None) -> None:
        self._statuses = statuses
        self._signals: deque[Mapping[str, Any]] = deque(maxlen=backlog)
        self._wake = asyncio.Event()
        self.changed = False
        self.closing = False

    def put(self, signal: Mapping[str, Any]) -> None:
        """Add a signal of an attempt. The oldest gives way to the newest."""
        if self._statuses is not None:
            return
        if len(self._signals) == self._signals.maxlen:
            DROPPED.inc()
        self._signals.append(signal)
        self._wake.set()

    def note_change(self, status: str | None) -> None:
        """The run has new events; an older conductor does not say which status it has now."""
        if self._statuses is None or status is None or status in self._statuses:
            self.changed = True
            self._wake.set()

    def close(self) -> None:
        self.closing = True
        self._wake.set()

    def take(self) -> list[Mapping[str, Any]]:
        """Return and forget the signals that wait."""
        signals = list(self._signals)
        self._signals.clear()
        return signals

    async def wait(self, timeout_s: float) -> None:
        """Return when something came, or when the time is over."""
        try:
            await asyncio.wait_for(self._wake.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the run has new events, or when the time is over. Signals are dropped meanwhile."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self.changed and not self.closing and loop.time() < deadline:
            self.take()
            await self.wait(deadline - loop.time())
        self.changed = False


class Live:
    """The process's ear on the bus. Readers register by run; everything about readers happens in the event loop."""

    def __init__(self, *, backlog: int) -> None:
        self._backlog = backlog
        self._readers: dict[str, set[Reader]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.closing = False

    def start(self, bus: Bus) -> None:
        """Listen in a thread of its own. Call from the event loop."""
        loop = asyncio.get_running_loop()

        def on_signal(key: str, payload: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self.deliver, key, payload)

        def listen() -> None:
            while not self._stop.is_set():
                try:
                    bus.listen(PATTERNS, on_signal, stop=self._stop)
                except errors.MillraceError as error:  # streams go on by polling the ledger
                    log.warning("listening_failed", reason=str(error))
                    self._stop.wait(RETRY_S)

        self._thread = threading.Thread(target=listen, name="gateway-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def close_streams(self) -> None:
        """End all streams soon, so that a shutdown does not wait for readers who never leave."""
        self.closing = True
        for readers in self._readers.values():
            for reader in readers:
                reader.close()

    def deliver(self, key: str, payload: Mapping[str, Any]) -> None:
        """Hand a signal to the readers of its run. Keys are `attempt.<run_id>.<kind>` and `run.<run_id>.changed`."""
        kind, _, rest = key.partition(".")
        run_id = rest.partition(".")[0]
        for reader in self._readers.get(run_id, ()):
            if kind == "run":
                reader.note_change(payload.get("status"))
            else:
                reader.put(payload)

    @contextmanager
    def reader(self, run_id: str, *, statuses: Container[str] | None = None) -> Iterator[Reader]:
        """A registered reader, for the block. See Reader."""
        reader = Reader(self._backlog, statuses)
        self._readers.setdefault(run_id, set()).add(reader)
        READERS.inc()
        try:
            yield reader
        finally:
            READERS.dec()
            self._readers[run_id].discard(reader)
            if not self._readers[run_id]:
                del self._readers[run_id]
