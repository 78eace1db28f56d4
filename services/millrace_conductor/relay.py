"""The relay: publishes what transactions left in the outbox, with confirms, then marks it sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import Ref
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import EndpointDesired, Event
from millrace.contracts.ids import new_id
from millrace.ledger import journal
from millrace.ledger.database import Database
from millrace.store import Store
from millrace_conductor.dispatch import StoreOf

log = structlog.get_logger()

BATCH = 256
ORPHAN_S = 5.0
"""Messages older than this belong to a conductor that died; any other sends them. Sending twice is harmless."""


def run_relay(
    database: Database, bus: Bus, stores: StoreOf, *, owner: str, wake: threading.Event, stop: threading.Event
) -> None:
    """Relay until told to stop; while the broker is down, keep trying and lose nothing."""
    pause_s = 1.0
    while not stop.is_set():
        try:
            num_sent = relay_once(database, bus, stores, owner=owner)
            pause_s = 1.0
        except errors.Unavailable as error:
            log.warning("relay_waiting", reason=str(error))
            num_sent, pause_s = 0, min(pause_s * 2, 10.0)
        if num_sent < BATCH:
            wake.wait(pause_s)
            wake.clear()


def relay_once(database: Database, bus: Bus, stores: StoreOf, *, owner: str) -> int:
    """Send one batch: refs, then commands and events, then signals; return how many messages."""
    messages = journal.read_outbox(database, owner=owner, stale_before=time.time() - ORPHAN_S, limit=BATCH)
    if not messages:
        return 0
    for event in _events(messages, "ref"):
        write_endpoint_ref(stores(event.tenant), EndpointDesired.model_validate(event.data))
    commands = [ExecuteAttempt.model_validate_json(body) for _, kind, body in messages if kind == "command"]
    if commands:
        bus.send(commands)
    if events := _events(messages, "event"):
        bus.publish(events)
    for event in _events(messages, "signal"):
        bus.signal(f"endpoint.{event.data['name']}.desired", event.data)
    database.transact(lambda tx: journal.mark_sent(tx, [i for i, _, _ in messages]))
    return len(messages)


def write_endpoint_ref(store: Store, desired: EndpointDesired) -> bool:
    """Write an endpoint's desired state as a ref; an older generation never replaces a newer one."""
    name = f"endpoints/{desired.name}"
    while True:
        current = store.read_ref(name)
        if current is not None and current.generation >= desired.generation:
            return False
        ref = Ref(target=desired.model_dump(mode="json"), generation=desired.generation, nonce=new_id("ref"))
        if store.write_ref(name, ref, expected=current):
            return True


def _events(messages: Sequence[tuple[str, str, str]], wanted: str) -> list[Event]:
    return [Event.model_validate_json(body) for _, kind, body in messages if kind == wanted]
