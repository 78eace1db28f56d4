"""In a child: whether the worker has asked the running attempt to stop."""

from __future__ import annotations

import threading

from millrace.runtime.channel import Channel


class StopRequest:
    """Reads the worker's word off the channel when somebody looks: one system call, and no thread that waits.

    Looking is safe from several threads. A word that names another attempt is that of one that has ended, and is dropped.
    """

    def __init__(self, channel: Channel, attempt_id: str) -> None:
        self._channel = channel
        self._attempt_id = attempt_id
        self._looking = threading.Lock()
        self._reason = ""

    def is_set(self) -> bool:
        """Whether this attempt shall save what it has and stop."""
        if not self._reason:
            with self._looking:
                messages, _ = self._channel.receive_ready()
                for message in messages:
                    if message.get("type") == "stop" and message["attempt_id"] == self._attempt_id:
                        self._reason = self._reason or str(message["reason"])
        return bool(self._reason)

    @property
    def reason(self) -> str:
        """Why, in the worker's word; empty if nobody asked. The first reason counts."""
        self.is_set()
        return self._reason
