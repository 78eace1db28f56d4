"""Triggers: what a clock or a prefix of objects starts, exactly once, however many conductors look.

A firing is one transaction: the run, and the trigger's next instant, which derives from the last scheduled one. The run's
id is a hash of the trigger and of what it fires for, so a firing that is tried again is the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from millrace import errors
from millrace.contracts.base import digest_of
from millrace.contracts.events import Origin, RunSubmitted, make_event
from millrace.contracts.graph import expand
from millrace.contracts.ids import derived_run_id
from millrace.contracts.triggers import CronTrigger, ObjectsTrigger
from millrace.ledger.database import Database, Transaction
from millrace.ledger.ledger import accept_run
from millrace.ledger.triggers import (
    TriggerRow,
    claim_trigger,
    due_trigger_ids,
    kept_pipeline,
    read_trigger,
    save_trigger,
)
from millrace.runtime.telemetry import new_trace
from millrace.settings import Settings
from millrace.store.pages import write_pages
from millrace_conductor.relay import StoreOf

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies under a prefix, the marker left out.

    Attributes:
        rows: `{"url", "path", "etag", "size_bytes"}` of each object, sorted.
        digest: Equal for equal objects; empty if there are none.
        is_marked: Whether the marker is there, or none is asked for.
    """

    rows: Sequence[Mapping[str, Any]]
    digest: str
    is_marked: bool


class Triggers:
    """Fires what is due. `look` is called now and then, by one thread."""

    def __init__(self, settings: Settings, database: Database, stores: StoreOf, *, fired: Callable[[], None]) -> None:
        """fired is called after a run was accepted."""
        self._settings = settings
        self._database = database
        self._stores = stores
        self._fired = fired

    def look(self, *, now: float | None = None) -> int:
        """Look at all due triggers; return how many runs they started. Servers that are away are asked again later."""
        at = time.time() if now is None else now
        num_started = 0
        for trigger_id in due_trigger_ids(self._database, now=at):
            seen = read_trigger(self._database, trigger_id)
            if seen is None:
                continue
            try:
                num_started += self._look_at(seen, at)
            except errors.MillraceError as error:
                log.warning("trigger_waits", trigger=trigger_id, reason=str(error))
                self._put_off(trigger_id, str(error), at)
        if num_started:
            self._fired()
        return num_started

    def _look_at(self, seen: TriggerRow, now: float) -> int:
        listing, uri = None, ""
        if isinstance(seen.trigger, ObjectsTrigger):
            listing = _listing(seen.trigger, self._settings)
            if advance_prefix(seen.trigger, seen.state, listing, now)[1]:  # stored before it is named
                pinned = write_pages(self._stores(seen.tenant), "plan", listing.rows)
                uri = f"{seen.trigger.new_objects}#{pinned.digest}"
        return self._database.transact(lambda tx: fire(tx, seen.trigger_id, now=now, listing=listing, uri=uri))

    def _put_off(self, trigger_id: str, reason: str, now: float) -> None:
        def work(tx: Transaction) -> None:
            row = claim_trigger(tx, trigger_id, now=now)
            if row is not None:
                pause_s = row.trigger.poll_s if isinstance(row.trigger, ObjectsTrigger) else 30.0
                save_trigger(tx, replace(row, error=reason[:500], next_at=now + pause_s))

        self._database.transact(work)


def fire(tx: Transaction, trigger_id: str, *, now: float, listing: Listing | None = None, uri: str = "") -> int:
    """Start the runs that a trigger is due for, and note when it is due again; return how many.

    Nothing happens if another conductor has been here since the trigger was read.
    """
    row = claim_trigger(tx, trigger_id, now=now)
    if row is None:
        return 0
    if isinstance(row.trigger, CronTrigger):
        return _fire_clock(tx, row, row.trigger, now)
    assert listing is not None, "a prefix is listed before it is decided on"
    state, is_due = advance_prefix(row.trigger, row.state, listing, now)
    if is_due and uri:
        run_id = derived_run_id(float(state["since"]), row.trigger_id, listing.digest)
        return _start(
            tx,
            replace(row, state=state),
            [(run_id, listing.digest, {row.trigger.param: uri})],
            _next_look(row, state, now),
        )
    save_trigger(tx, replace(row, state=state if not is_due else row.state, next_at=_next_look(row, state, now)))
    return 0


def advance_prefix(
    trigger: ObjectsTrigger, state: Mapping[str, Any], listing: Listing, now: float
) -> tuple[dict[str, Any], bool]:
    """(state after a look, whether to fire): what is there differs from what was last fired for, and has come to rest.

    With a marker the upload is at rest when the marker is there, else when nothing has changed for `quiet_s`.
    """
    after = dict(state)
    if listing.digest != state.get("seen"):
        after |= {"seen": listing.digest, "since": now}
    is_new = bool(listing.digest) and listing.digest != state.get("fired")
    is_at_rest = listing.is_marked if trigger.marker else now - float(after["since"]) >= trigger.quiet_s
    if not (is_new and is_at_rest):
        return after, False
    return {**after, "fired": listing.digest}, True


def _next_look(row: TriggerRow, state: Mapping[str, Any], now: float) -> float:
    """After a poll's pause, or as soon as the quiet time may be over."""
    assert isinstance(row.trigger, ObjectsTrigger)
    quiet_until = float(state.get("since", now)) + row.trigger.quiet_s
    waits = not row.trigger.marker and state.get("seen") != state.get("fired") and quiet_until > now
    return min(now + row.trigger.poll_s, quiet_until) if waits else now + row.trigger.poll_s


def _fire_clock(tx: Transaction, row: TriggerRow, trigger: CronTrigger, now: float) -> int:
    assert row.next_at is not None, "it is due"
    scheduled, present = datetime.fromtimestamp(row.next_at, UTC), datetime.fromtimestamp(now, UTC)
    instants = trigger.due(scheduled, present)
    following = trigger.next_after(max(present, scheduled))
    firings: list[tuple[str, str, Mapping[str, Any]]] = [
        (derived_run_id(i.timestamp(), row.trigger_id, i.isoformat()), i.isoformat(), {}) for i in instants
    ]
    return _start(tx, row, firings, None if following is None else following.timestamp())


def _start(
    tx: Transaction, row: TriggerRow, firings: Iterable[tuple[str, str, Mapping[str, Any]]], next_at: float | None
) -> int:
    """Accept (run id, what for, parameters) each as a run; a pipeline that no longer fits is noted, not tried for ever."""
    error, state, num_started = "", dict(row.state), 0
    for run_id, at, params in firings:
        if tx.rows("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)):
            continue
        try:
            accept_run(tx, _submission(tx, row, run_id, at, params))
        except errors.InvalidInput as refused:
            error = str(refused)[:500]
            log.warning("trigger_failed", trigger=row.trigger_id, pipeline=row.pipeline, reason=error)
            break
        num_started += 1
        state["latest_run"] = run_id
    save_trigger(tx, replace(row, state=state, next_at=next_at, error=error))
    return num_started


def _submission(tx: Transaction, row: TriggerRow, run_id: str, at: str, params: Mapping[str, Any]) -> Any:
    spec, given = kept_pipeline(tx, row.tenant, row.pipeline)
    values = {**given, **row.trigger.params, **params}
    data = RunSubmitted(
        run_id=run_id, graph=expand(spec, values, tenant=row.tenant), params=values, trace=new_trace(),
        labels={"trigger": row.trigger_id}, spec=spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        origin=Origin(kind="trigger", of=row.trigger_id, at=at),
    )  # fmt: skip
    return make_event(data, source=f"trigger/{row.trigger_id}", subject=run_id, tenant=row.tenant)


def _listing(trigger: ObjectsTrigger, settings: Settings) -> Listing:
    """What lies under the prefix now; nothing is no error, as it may come."""
    from millrace.store.external import list_objects  # the S3 client is a fifth of what a conductor's start would take

    try:
        found = list(list_objects(trigger.new_objects, settings))
    except errors.NotFound:
        found = []
    is_marked = not trigger.marker or any(o.path.rpartition("/")[2] == trigger.marker for o in found)
    rows = [
        {"url": o.url, "path": o.path, "etag": o.etag, "size_bytes": o.size_bytes}
        for o in sorted(found, key=lambda o: o.path)
        if not trigger.marker or o.path.rpartition("/")[2] != trigger.marker
    ]
    return Listing(rows, digest_of(rows) if rows else "", is_marked)
