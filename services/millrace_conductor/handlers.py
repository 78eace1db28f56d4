"""Folding events into the ledger: in one transaction the event, the new state, tasks, timers and outgoing messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from millrace import errors
from millrace.bus import DeadLetter
from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptEvent,
    AttemptUndeliverable,
    EndpointReported,
    Event,
    EventRefused,
    Holder,
    decode,
    event_type,
    make_event,
)
from millrace.contracts.ids import attempt_id
from millrace.ledger import journal
from millrace.ledger.database import Transaction
from millrace.ledger.ledger import set_desired
from millrace.ledger.state import FINAL_RUN, RunState, TaskKey, TaskState
from millrace_conductor.machine import (
    AddTasks,
    Announce,
    Effect,
    Release,
    SetTimer,
    Stop,
    StopOpenTasks,
    advance,
    graph_stage,
)

log = structlog.get_logger()


@dataclass(slots=True)
class Outcome:
    """What is left to do after the commit, all of it transient: a lost word is repeated at the next heartbeat."""

    stops: list[Stop] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)


def fold(tx: Transaction, events: Iterable[Event], *, conductor: str, now: float) -> Outcome:
    """Fold events that may have been seen before, in any order.

    Args:
        tx: The transaction that makes it all durable at once.
        events: From the bus, the inbox or timers.
        conductor: Id of this conductor; its relay sends what is queued here.
        now: Seconds.
    """
    outcome = Outcome()
    for event in events:
        if not journal.is_seen(tx, event.id):
            _fold_one(tx, event, outcome, conductor, now)
    return outcome


def _fold_one(tx: Transaction, event: Event, outcome: Outcome, conductor: str, now: float) -> None:
    try:
        data = decode(event)
    except errors.InvalidInput as error:
        journal.append_event(tx, event, refused=str(error))
        log.error("event_refused", event_id=event.id, type=event.type, reason=str(error))
        if event.type != event_type(EventRefused):
            _fold_one(tx, refusal_of(event, str(error)), outcome, conductor, now)
        return
    if isinstance(data, EndpointReported):
        _note_report(tx, event, data, now)
    run_id = str(getattr(data, "run_id", ""))
    run = journal.load_run(tx, run_id) if run_id else None
    journal.append_event(tx, event)
    if run is None:
        return
    task = journal.load_task(tx, _key(data)) if isinstance(data, AttemptEvent) else None
    decision = advance(run, data, task=task, now=now)
    if decision.task is not None and decision.task != task:
        journal.save_task(tx, decision.task)
    if decision.run != run:
        journal.save_run(tx, run, decision.run)
    for effect in decision.effects:
        _carry_out(tx, decision.run, effect, outcome, conductor, now)
    if decision.run.status in FINAL_RUN and run.status not in FINAL_RUN:
        journal.drop_timers(tx, run_id)
    outcome.changed.add(run_id)


def refusal_of(event: Event, reason: str) -> Event:
    """The event that ends the run which another event was about; its id is derived, so that refusing twice is once."""
    data = EventRefused(run_id=event.subject, event_id=event.id, reason=reason[:1000])
    return make_event(data, source=event.source, subject=event.subject, tenant=event.tenant, id=f"{event.id}.refused")


def events_of(letters: Sequence[DeadLetter]) -> list[Event]:
    """What dead letters mean to their runs: a command is undeliverable, an event refused. Others stay in the log."""
    events = []
    for letter in letters:
        log.error("message_died", queue=letter.queue, reason=letter.reason, body=letter.body[:2000])
        if letter.command is not None:
            events.append(_undeliverable(letter.command, letter.reason))
        elif letter.event is not None:
            events.append(refusal_of(letter.event, letter.reason))
    return events


def _undeliverable(command: ExecuteAttempt, reason: str) -> Event:
    holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce="", worker="")
    data = AttemptUndeliverable(
        run_id=command.run_id, stage=command.stage, phase=command.phase, index=command.index, round=command.round,
        holder=holder, reason=reason,
    )  # fmt: skip
    event_id = f"{command.attempt_id}.undeliverable"
    return make_event(data, source="conductor", subject=command.run_id, tenant=command.tenant, id=event_id)


def _key(data: AttemptEvent) -> TaskKey:
    return TaskKey(data.run_id, data.stage, data.round, data.phase, data.index)


def _carry_out(tx: Transaction, run: RunState, effect: Effect, outcome: Outcome, conductor: str, now: float) -> None:
    match effect:
        case Announce(data):
            announce(tx, run, data, conductor=conductor, now=now)
        case AddTasks():
            journal.add_tasks(tx, _new_tasks(run, effect))
        case Stop():
            outcome.stops.append(effect)
        case StopOpenTasks(reason):
            outcome.stops.extend(Stop(holder_of(t), reason) for t in journal.open_tasks(tx, run.run_id))
            journal.close_tasks(tx, run.run_id)
        case Release():
            _release(tx, run, effect, conductor, now)
        case SetTimer(name, delay_s, data):
            event = make_event(data, source=f"conductor/{conductor}", subject=run.run_id, tenant=run.tenant)
            journal.set_timer(tx, name, event, run_id=run.run_id, due_at=now + delay_s)


def announce(tx: Transaction, run: RunState, data: Contract, *, conductor: str, now: float) -> None:
    """Journal a fact and queue it for the bus."""
    event = make_event(data, source=f"conductor/{conductor}", subject=run.run_id, tenant=run.tenant)
    journal.append_event(tx, event)
    journal.put_outbox(tx, "event", event.to_json(), owner=conductor, now=now)


def holder_of(task: TaskState) -> Holder:
    """Who holds a task's present attempt; an empty nonce means whoever comes to hold it."""
    key = task.key
    return Holder(
        attempt_id=attempt_id(key.run_id, key.stage, f"{key.phase}{key.round}", key.idx, task.fence),
        fence=max(task.fence, 1),
        nonce=task.nonce,
        worker=task.worker,
    )


def _new_tasks(run: RunState, effect: AddTasks) -> Iterable[TaskState]:
    spec = graph_stage(run.graph, effect.stage)
    for index in range(effect.count):
        yield TaskState(
            key=TaskKey(run.run_id, effect.stage, effect.round, effect.phase, index),
            tenant=run.tenant,
            service=spec.service,
            resource_class=spec.resources.resource_class,
            priority=run.priority,
        )


def _release(tx: Transaction, run: RunState, effect: Release, conductor: str, now: float) -> None:
    """Number the release within its endpoint and advance the desired state; the endpoint's row is the lock."""
    tx.rows(f"SELECT 1 FROM endpoints WHERE tenant = ? AND name = ?{tx.lock}", (run.tenant, effect.endpoint))
    rows = tx.rows(
        "SELECT COALESCE(MAX(release_number), 0) + 1 FROM releases WHERE tenant = ? AND endpoint = ?",
        (run.tenant, effect.endpoint),
    )
    number = int(rows[0][0])
    tx.run(
        "INSERT INTO releases (tenant, endpoint, release_number, model, run_id, metrics, released_at) VALUES (?,?,?,?,?,?,?)",
        (
            run.tenant,
            effect.endpoint,
            number,
            effect.model.model_dump_json(),
            run.run_id,
            json.dumps(dict(effect.metrics)),
            now,
        ),
    )
    set_desired(
        tx, run.tenant, effect.endpoint, release=number, model=effect.model, run_id=run.run_id, owner=conductor, now=now
    )


def _note_report(tx: Transaction, event: Event, data: EndpointReported, now: float) -> None:
    """Keep what a server says of an endpoint; an older generation's word changes no status."""
    tx.run(
        "INSERT INTO endpoint_servers (tenant, name, server, url, generation, status, seen_at) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (tenant, name, server) DO UPDATE SET url = excluded.url, generation = excluded.generation,"
        " status = excluded.status, seen_at = excluded.seen_at WHERE endpoint_servers.generation <= excluded.generation",
        (event.tenant, data.name, data.server, data.url, data.generation, data.status, now),
    )
    tx.run(
        "UPDATE endpoints SET status = ?, error = ?, updated_at = ? WHERE tenant = ? AND name = ? AND generation = ?"
        " AND NOT (status = 'ready' AND ? = 'failed')",
        (data.status, data.error.model_dump_json() if data.error else None, now, event.tenant, data.name, data.generation,
         data.status),
    )  # fmt: skip


def fold_inbox(tx: Transaction, *, conductor: str, now: float, limit: int = 64) -> Outcome:
    """Fold submissions and cancels that gateways have accepted."""
    return fold(tx, journal.take_inbox(tx, limit), conductor=conductor, now=now)


def fold_timers(tx: Transaction, *, conductor: str, now: float, limit: int = 64) -> Outcome:
    """Fold timers that are due."""
    return fold(tx, journal.take_due_timers(tx, now=now, limit=limit), conductor=conductor, now=now)


def stop_signals(stops: Sequence[Stop]) -> dict[str, list[dict[str, object]]]:
    """Group stops into one control signal per worker; an unknown worker means all of them."""
    signals: dict[str, list[dict[str, object]]] = {}
    for stop in stops:
        key = f"control.worker.{stop.holder.worker}" if stop.holder.worker else "control.all"
        signals.setdefault(key, []).append(
            {
                "attempt_id": stop.holder.attempt_id,
                "fence": stop.holder.fence,
                "nonce": stop.holder.nonce or None,
                "reason": stop.reason,
            }
        )
    return signals
