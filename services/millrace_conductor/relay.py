"""The relay: publishes what transactions left in the outbox, with confirms, and forgets it then.

What this conductor decided is handed over in memory, after the commit. The rows are the truth: what was not sent, because
the broker was away or the conductor died, is read from them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.contracts.artifacts import Ref
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import EndpointDesired, Event, event_type
from millrace.contracts.ids import new_id
from millrace.ledger import queues
from millrace.ledger.database import Database
from millrace.ledger.queues import OutboxKind, Outgoing, Waiting
from millrace.store import Store

log = structlog.get_logger()

StoreOf = Callable[[str], Store]

BATCH = 256
"""Rows sent together."""

ORPHAN_S = 5.0
"""Rows older than this belong to a conductor that died, or could not be sent; any sends them. Sending twice is harmless."""

POLL_S = 1.0
"""How often the outbox is looked into for what nobody handed over."""

FORGET_S = 0.2
"""How long rows that were sent wait for a transaction to take them along before they get one of their own."""

MAX_IN_MEMORY = 10_000
"""Rows handed over and not sent; beyond it a row waits in the outbox alone."""

_LONGEST_PAUSE_S = 10.0

_DESIRED = event_type(EndpointDesired)


class Relay:
    """One conductor's relay. `run` has a thread of its own; all else may be called from any."""

    def __init__(self, database: Database, bus: Bus, stores: StoreOf, *, owner: str) -> None:
        self._database = database
        self._bus = bus
        self._stores = stores
        self._owner = owner
        self._lock = threading.Lock()
        self._handed: deque[Outgoing] = deque()
        self._sent: list[str] = []
        self._is_behind = True
        self._is_in_doubt = False
        self._read_to = ""
        self._polled_at = 0.0
        self._woken = threading.Event()

    def hand_over(self, rows: Sequence[Outgoing]) -> None:
        """Send these rows, which have just been committed."""
        if not rows:
            return
        with self._lock:
            if len(self._handed) < MAX_IN_MEMORY:
                self._handed.extend(rows)
        self._woken.set()

    def doubt(self) -> None:
        """Read the outbox again: a transaction may have left rows there that nobody handed over."""
        with self._lock:
            self._is_in_doubt = True
        self._woken.set()

    def take_sent(self) -> list[str]:
        """Rows that were sent, for a transaction to remove; give them back if it fails."""
        with self._lock:
            sent, self._sent = self._sent, []
            return sent

    def give_back(self, sent: Iterable[str]) -> None:
        with self._lock:
            self._sent.extend(sent)

    def wake(self) -> None:
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Relay until told to stop; while broker, store or database are down, keep trying and lose nothing."""
        failures = 0
        while not stop.is_set():
            try:
                pause_s = self.step()
                failures = 0
            except Exception as error:  # the conductor's only voice must not fall silent
                failures += 1
                pause_s = min(0.5 * 2**failures, _LONGEST_PAUSE_S)
                if isinstance(error, errors.MillraceError):
                    log.warning("relay_waiting", reason=str(error))
                else:
                    log.exception("relay_failed")
            self._woken.wait(pause_s)
            self._woken.clear()
        try:
            self._forget()
        except errors.MillraceError as error:
            log.warning("relay_left_rows", reason=str(error))  # they are sent again, harmlessly

    def step(self) -> float:
        """Send what there is, or do what is due when there is nothing; return how long to wait."""
        with self._lock:
            if self._is_in_doubt:
                self._is_in_doubt, self._is_behind, self._read_to = False, True, ""
            if self._is_behind:
                self._handed.clear()  # they are in the outbox, from which all is read now
            rows = [self._handed.popleft() for _ in range(min(BATCH, len(self._handed)))]
        if rows:
            self._is_behind, self._read_to = True, ""  # until they are sent: should that fail, the outbox has them
            sent = _send(rows, self._bus, self._stores)
            self._is_behind = False
            self.give_back(sent)
            return 0.0 if self._handed else FORGET_S
        self._forget()
        if self._is_behind or time.monotonic() - self._polled_at >= POLL_S:
            self._polled_at = time.monotonic()
            owner = self._owner if self._is_behind else ""  # a gateway's words have no owner
            self._read_to = relay_once(self._database, self._bus, self._stores, owner=owner, after=self._read_to)
            if self._read_to:
                self._polled_at = 0.0
                return 0.0
            self._is_behind = False
        return POLL_S

    def _forget(self) -> None:
        sent = self.take_sent()
        try:
            if sent:
                self._database.transact(lambda tx: queues.mark_sent(tx, sent))
        except BaseException:
            self.give_back(sent)
            raise


def relay_once(database: Database, bus: Bus, stores: StoreOf, *, owner: str, after: str = "") -> str:
    """Send one batch of the outbox's rows behind an id, `owner`'s and orphans, and remove them.

    Returns:
        The batch's last id, if there may be more behind it. What was held back is passed over, for a later round.
    """
    waiting = queues.read_outbox(database, owner=owner, stale_before=time.time() - ORPHAN_S, after=after, limit=BATCH)
    sent = _send([_read(row) for row in waiting], bus, stores)
    if sent:
        database.transact(lambda tx: queues.mark_sent(tx, sent))
    return waiting[-1].id if len(waiting) == BATCH else ""


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


def _send(rows: Sequence[Outgoing], bus: Bus, stores: StoreOf) -> list[str]:
    """Send refs, then commands, events and signals; return the ids of the rows that were sent.

    The word of an endpoint's new state is held back until its ref is written; all else goes.
    """
    held = _write_refs(rows, stores)
    ready = [row for row in rows if row.id not in held]
    messages = [message for row in ready for message in row.messages]
    bus.send(
        [m for kind, m in messages if kind == "command" and isinstance(m, ExecuteAttempt)],
        events=_events(messages, "event"),
    )
    for event in _events(messages, "signal"):
        bus.signal(f"endpoint.{event.data['name']}.desired", event.data)
    return [row.id for row in ready]


def _write_refs(rows: Sequence[Outgoing], stores: StoreOf) -> set[str]:
    """Write what refs there are; return the rows whose endpoint's ref could not be written now."""
    failed: set[tuple[str, str]] = set()
    for event in (event for row in rows for event in _events(row.messages, "ref")):
        desired = EndpointDesired.received(event.data)
        try:
            write_endpoint_ref(stores(event.tenant), desired)
        except errors.MillraceError as error:
            log.warning("endpoint_ref_waits", endpoint=desired.name, reason=str(error))
            failed.add((event.tenant, desired.name))
    if not failed:
        return set()
    return {row.id for row in rows if any(_endpoint(message) in failed for _, message in row.messages)}


def _endpoint(message: object) -> tuple[str, str] | None:
    """The endpoint (tenant, name) that a message is about, if it is the word of a new desired state."""
    if isinstance(message, Event) and message.type == _DESIRED:
        return message.tenant, str(message.data["name"])
    return None


def _events(messages: Iterable[tuple[OutboxKind, object]], wanted: OutboxKind) -> list[Event]:
    return [m for kind, m in messages if kind == wanted and isinstance(m, Event)]


def _read(row: Waiting) -> Outgoing:
    return Outgoing(
        row.id,
        [(kind, (ExecuteAttempt if kind == "command" else Event).received(message)) for kind, message in row.messages],
    )
