"""Stop signals: SIGTERM and SIGINT become events that threads wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_stop_signal(*events: threading.Event, then: Callable[[], None] | None = None) -> Iterator[None]:
    """Within the block, SIGTERM and SIGINT set these events and call `then`. For the main thread.

    `then` runs between two instructions of the main thread: it must be short, and take no lock that thread may hold.
    """

    def handle(_number: int, _frame: object) -> None:
        for event in events:
            event.set()
        if then is not None:
            then()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
