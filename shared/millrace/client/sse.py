"""Following a run over Server-Sent Events: parsing, resuming, knowing the end. Does no I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from millrace import errors
from millrace.client import calls
from millrace.client.calls import Call
from millrace.contracts.views import EventView, SignalView

RUN_FINISHED = "run.finished.v1"
RUN_RETRIED = "run.retried.v1"
PATIENCE_S = 120.0
"""How long a follower tries to reach a gateway that went away; a restart takes seconds, a host's reboot a minute."""


@dataclass(slots=True)
class Follower:
    """Where a reader of a run's events stands. The caller opens `call()`, and hands over each line."""

    run_id: str
    signals: bool
    after: int = 0
    is_over: bool = False
    _has_ended: bool = False
    _event: str = ""
    _data: list[str] = field(default_factory=list)
    _lost_at: float | None = None
    _num_losses: int = 0

    def call(self) -> Call[None]:
        """The request that goes on where the last answer broke off."""
        self._event, self._data = "", []
        return calls.stream_events(self.run_id, after=self.after, signals=self.signals)

    def opened(self, status_code: int) -> None:
        """Note that the gateway answered; 204 means that nothing more will come."""
        self.is_over = status_code == 204

    def read(self, line: str) -> EventView | SignalView | None:
        """Take one line without its end; return what it completes, if anything.

        An event that was seen before is passed over: after a reconnect the server may repeat, and must not be believed.
        """
        if line:
            self._field(line)
            return None
        event, data = self._event, "\n".join(self._data)
        self._event, self._data = "", []
        if not data:
            return None
        self._lost_at, self._num_losses = None, 0
        if event == "signal":
            return SignalView.received_json(data) if self.signals else None
        view = EventView.received_json(data)
        if view.seq <= self.after:
            return None
        self.after, self._has_ended = (
            view.seq,
            view.type == RUN_FINISHED or (self._has_ended and view.type != RUN_RETRIED),
        )
        return view

    def closed(self) -> None:
        """Note that the gateway ended the stream: after the run's end nothing more will come, unless it is retried."""
        self.is_over = self.is_over or self._has_ended

    def lost(self, error: errors.Unavailable | None = None) -> float:
        """Note that the stream broke before the run's end; return how many seconds to wait before the next try.

        Raises:
            Unavailable: The gateway has been away for longer than PATIENCE_S.
        """
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if now - self._lost_at > PATIENCE_S:
            raise error or errors.Unavailable(f"The event stream of {self.run_id} keeps breaking off.")
        self._num_losses += 1
        return min(0.1 * 2.0**self._num_losses, 5.0)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
