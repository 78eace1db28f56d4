"""The relay: publishes what transactions left in the outbox, with confirms, then marks it sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import Ref
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import EndpointDesired, Event, event_type
from millrace.contracts.ids import new_id
from millrace.ledger import queues
from millrace.ledger.database import Database
from millrace.ledger.queues import OutboxKind
from millrace.store import Store

log = structlog.get_logger()

StoreOf = Callable[[str], Store]
Message = tuple[str, OutboxKind, str]

BATCH = 256
ORPHAN_S = 5.0
"""Messages older than this belong to a conductor that died; any other sends them. Sending twice is harmless."""

_PAUSE_S = (1.0, 10.0)
"""How long to wait with nothing to send, and at most after failures."""


def run_relay(
    database: Database, bus: Bus, stores: StoreOf, *, owner: str, wake: threading.Event, stop: threading.Event
) -> None:
    """Relay until told to stop; while broker, store or database are down, keep trying and lose nothing."""
    pause_s, longest_s = _PAUSE_S
    while not stop.is_set():
        num_sent = 0
        try:
            num_sent = relay_once(database, bus, stores, owner=owner)
            pause_s = _PAUSE_S[0]
        except errors.MillraceError as error:
            log.warning("relay_waiting", reason=str(error))
            pause_s = min(pause_s * 2, longest_s)
        except Exception:  # the conductor's only voice must not fall silent
            log.exception("relay_failed")
            pause_s = longest_s
        if num_sent < BATCH:
            wake.wait(pause_s)
            wake.clear()


def relay_once(database: Database, bus: Bus, stores: StoreOf, *, owner: str) -> int:
    """Send one batch: refs, then commands and events, then signals; return how many messages were sent.

    The word of an endpoint's new state is held back until its ref is written; all else goes.
    """
    messages = queues.read_outbox(database, owner=owner, stale_before=time.time() - ORPHAN_S, limit=BATCH)
    if not messages:
        return 0
    held = _write_refs(messages, stores)
    messages = [m for m in messages if not (held and _endpoint(m) in held)]
    if commands := [ExecuteAttempt.model_validate_json(body) for _, kind, body in messages if kind == "command"]:
        bus.send(commands)
    if events := _events(messages, "event"):
        bus.publish(events)
    for event in _events(messages, "signal"):
        bus.signal(f"endpoint.{event.data['name']}.desired", event.data)
    database.transact(lambda tx: queues.mark_sent(tx, [i for i, _, _ in messages]))
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


def _write_refs(messages: Sequence[Message], stores: StoreOf) -> set[tuple[str, str]]:
    """Write what refs there are; return the endpoints (tenant, name) whose ref could not be written now."""
    held = set()
    for event in _events(messages, "ref"):
        desired = EndpointDesired.model_validate(event.data)
        try:
            write_endpoint_ref(stores(event.tenant), desired)
        except errors.MillraceError as error:
            log.warning("endpoint_ref_waits", endpoint=desired.name, reason=str(error))
            held.add((event.tenant, desired.name))
    return held


def _endpoint(message: Message) -> tuple[str, str] | None:
    """The endpoint (tenant, name) that a message is about, if it is the word of a new desired state."""
    if message[1] == "command":
        return None
    event = Event.model_validate_json(message[2])
    return (event.tenant, str(event.data["name"])) if event.type == event_type(EndpointDesired) else None


def _events(messages: Sequence[Message], wanted: OutboxKind) -> list[Event]:
    return [Event.model_validate_json(body) for _, kind, body in messages if kind == wanted]
