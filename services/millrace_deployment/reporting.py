"""What the server tells the conductor, delivered even if the broker is away when it happens."""

from __future__ import annotations

import threading
from collections import deque

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.events import EndpointDesired, EndpointReported, ErrorInfo, Event, make_event
from millrace.contracts.ids import DEFAULT_TENANT

RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits while the broker is away; the last one repeats."""

log = structlog.get_logger()


class Reporter:
    """Publishes reports in order, each under one event id until the broker confirms it."""

    def __init__(self, bus: Bus, *, server: str, url: str, tenant: str = DEFAULT_TENANT) -> None:
        self._bus = bus
        self._server = server
        self._url = url
        self._tenant = tenant
        self._queue: deque[Event] = deque()
        self._wake = threading.Event()

    def report(self, desired: EndpointDesired, status: str, error: ErrorInfo | None = None) -> None:
        """Queue a report; never waits for the broker."""
        data = EndpointReported.model_validate(
            {
                "name": desired.name, "generation": desired.generation, "server": self._server, "url": self._url,
                "status": status, "run_id": desired.run_id, "error": error,
            }
        )  # fmt: skip
        self._queue.append(make_event(data, source=f"server/{self._server}", subject=desired.name, tenant=self._tenant))
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Publish until told to stop, then try once more what is left."""
        failures = 0
        while not stop.is_set():
            if self._wake.wait(timeout=0.5) and not self._flush():
                stop.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            else:
                failures = 0
        self._flush()

    def wake(self) -> None:
        """Let `run` notice that it was told to stop."""
        self._wake.set()

    def _flush(self) -> bool:
        self._wake.clear()
        while self._queue:
            batch = list(self._queue)
            try:
                self._bus.publish(batch)
            except errors.MillraceError as error:
                log.warning("report_delayed", waiting=len(batch), reason=error.message)
                self._wake.set()
                return False
            for _ in batch:
                self._queue.popleft()
        return True
