"""A run's events as Server-Sent Events: the journal by number, with transient signals in between."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Container

from millrace import errors
from millrace.contracts.views import TERMINAL_STATUSES, EventView, RunView
from millrace_gateway.backends import Backends

RUN_FINISHED = "run.finished.v1"
HEARTBEAT = b": alive\n\n"
PAGE = 500


async def stream_events(
    backends: Backends, run_id: str, *, after: int, signals: bool, may_be_over: bool = False
) -> AsyncIterator[bytes]:
    """Yield encoded events after a number, then what comes, until the run is over or the gateway's end.

    Its terminal event need not be its last: a run that is retried goes on, and what is late comes later. So the stream
    ends when all is said of a run that is over at that moment.

    Signals are best effort: a reader who comes late or reads slowly misses some. Journal events are never missed: they
    are read from the ledger, and a wake-up or `gateway_poll_s` only decides how soon.

    Args:
        may_be_over: Whether the run's terminal event may have been said before.
    """
    settings = backends.settings
    yield b"retry: 1000\n\n"
    spoke_at, polled_at = time.monotonic(), -math.inf
    with backends.live.reader(run_id) as reader:
        while not backends.live.closing:
            said, page_is_full = False, False
            # A signal is no reason to ask the ledger: there may be ten a second from each attempt.
            if reader.changed or time.monotonic() - polled_at >= settings.gateway_poll_s:
                reader.changed = False
                events = await _events(backends, run_id, after)
                polled_at, page_is_full = time.monotonic(), len(events) == PAGE
                for event in events:
                    yield encode(event.type, event.model_dump_json(), id=event.seq)
                    after, said = event.seq, True
                    may_be_over |= event.type == RUN_FINISHED
                if may_be_over and not page_is_full:
                    view = await _look(backends, run_id)
                    if view is not None and view.status in TERMINAL_STATUSES and view.seq <= after:
                        return
                    reader.changed = view is not None and view.seq > after
            for payload in reader.take() if signals else ():
                yield encode("signal", json.dumps(payload, separators=(",", ":")))
                said = True
            if said:
                spoke_at = time.monotonic()
            elif time.monotonic() - spoke_at >= settings.gateway_stream_heartbeat_s:
                yield HEARTBEAT
                spoke_at = time.monotonic()
            if not page_is_full:
                await reader.wait(min(settings.gateway_poll_s, settings.gateway_stream_heartbeat_s))


async def wait_until_finished(backends: Backends, run_id: str, *, limit_s: float) -> RunView:
    """Return the run as soon as it is over, or as it is when the time is. Raises NotFound."""
    return await wait_until(
        backends, run_id, lambda v: v.status in TERMINAL_STATUSES, limit_s=limit_s, statuses=TERMINAL_STATUSES
    )  # fmt: skip


async def wait_until(
    backends: Backends,
    run_id: str,
    is_so: Callable[[RunView], bool],
    *,
    limit_s: float,
    statuses: Container[str] | None = None,
) -> RunView:
    """Return the run as soon as something is so of it, or as it is when the time is over.

    Args:
        statuses: Of the run, in which alone it can be so; None: in any.

    Raises:
        NotFound: There is no such run.
    """
    deadline = time.monotonic() + limit_s
    with backends.live.reader(run_id, statuses=statuses) as reader:
        while True:
            view = await backends.call(backends.ledger.run, backends.settings.tenant, run_id)
            left_s = deadline - time.monotonic()
            if is_so(view) or left_s <= 0 or backends.live.closing:
                return view
            await reader.wait_for_change(min(left_s, backends.settings.gateway_poll_s))


def encode(event: str, data: str, *, id: int | None = None) -> bytes:
    """One SSE message. `data` is JSON on one line."""
    number = f"id: {id}\n" if id is not None else ""
    return f"{number}event: {event}\ndata: {data}\n\n".encode()


async def _look(backends: Backends, run_id: str) -> RunView | None:
    try:
        return await backends.call(backends.ledger.run, backends.settings.tenant, run_id)
    except errors.Unavailable:
        return None


async def _events(backends: Backends, run_id: str, after: int) -> list[EventView]:
    try:
        return await backends.call(backends.ledger.events, backends.settings.tenant, run_id, after=after, limit=PAGE)
    except errors.Unavailable:
        return []  # the ledger is away for a moment; the stream stays and asks again
