"""Folding events into the ledger: in one transaction the event, the new state, tasks, timers and outgoing messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from millrace import errors
from millrace.bus import DeadLetter
from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import (
    AttemptEvent,
    AttemptSucceeded,
    AttemptUndeliverable,
    ComputationEnded,
    EndpointReported,
    Event,
    EventRefused,
    Holder,
    TaskDied,
    decode,
    event_type,
    make_event,
)
from millrace.contracts.ids import attempt_id
from millrace.ledger import cache, dead_letters, endpoints, queues
from millrace.ledger.state import FINAL_RUN, RunState, TaskKey, TaskState, TaskStatus
from millrace_conductor.effects import (
    AddTasks,
    Admit,
    Announce,
    BuryTask,
    Decision,
    Effect,
    PauseTasks,
    Redo,
    Release,
    ResumeTasks,
    ReviveTasks,
    SetTimer,
    Stop,
    StopOpenTasks,
    Yield,
)
from millrace_conductor.folding import Folding
from millrace_conductor.keys import is_cacheable
from millrace_conductor.lifecycle import graph_stage
from millrace_conductor.machine import advance
from millrace_conductor.uses import newly_made
from millrace_conductor.windows import Took, series_of

log = structlog.get_logger()

OF_A_TASK = (AttemptEvent, ComputationEnded)


def fold(folding: Folding, events: Iterable[Event]) -> None:
    """Fold events that may have been seen before, in any order; all their runs are locked first, in one order."""
    decoded = [_decoded(event) for event in events]
    folding.lock(
        (run_id for event, data in decoded if (run_id := _run_id(event, data))),
        event_ids=[i for event, data in decoded for i in (event.id, *_id_of_refused(event, data))],
        keys=[key_of(data) for _, data in decoded if isinstance(data, OF_A_TASK)],
    )
    for event, data in decoded:
        if not folding.is_seen(event.id):
            _fold_one(folding, event, data)


def refuse(folding: Folding, events: Iterable[Event], reason: str) -> None:
    """Journal events as refused, and end the runs that they are about."""
    refused = list(events)
    folding.lock(
        (event.subject for event in refused),
        event_ids=[i for event in refused for i in (event.id, f"{event.id}.refused")],
    )
    for event in refused:
        if not folding.is_seen(event.id):
            _refuse_one(folding, event, reason)


def _fold_one(folding: Folding, event: Event, data: Contract | errors.InvalidInput) -> None:
    if isinstance(data, errors.InvalidInput):
        _refuse_one(folding, event, str(data))
        return
    if isinstance(data, EndpointReported):
        endpoints.note_report(folding.tx, event.tenant, data, now=folding.now)
    run = folding.runs.get(_run_id(event, data))
    if run is not None and _would_release(run, data):
        _hear_inbox_first(folding, run.run_id)
    folding.journal(event)
    if run is None:
        return
    task = folding.task(key_of(data)) if isinstance(data, OF_A_TASK) else None
    run = folding.runs[run.run_id]
    decision = advance(run, data, task=task, now=folding.now)
    apply(folding, run, decision, task=task)
    if isinstance(data, AttemptSucceeded) and decision.task is not None:
        folding.computed.succeed(decision.task, data)
        place = (decision.task.service, decision.task.resource_class)
        folding.outcome.took.append(Took(place, series_of(run, decision.task.key), data.duration_s))
    elif isinstance(data, ComputationEnded) and data.answer is None and decision.task is None:
        folding.computed.led.add((data.key, key_of(data)))  # it was told to compute, and cannot any more


def apply(folding: Folding, run: RunState, decision: Decision, *, task: TaskState | None = None) -> None:
    """Take a decision about a locked run into the working set, and carry out its effects."""
    if decision.task is not None and decision.task != task:
        folding.save_task(decision.task)
    folding.save_run(decision.run)
    folding.uses.update(newly_made(run, decision.run))
    for effect in decision.effects:
        _carry_out(folding, run.run_id, effect)
    if decision.run.status in FINAL_RUN and run.status not in FINAL_RUN:
        queues.drop_timers(folding.tx, run.run_id)
        folding.admit(run)
    folding.outcome.changed[run.run_id] = folding.runs[run.run_id].status


def _carry_out(folding: Folding, run_id: str, effect: Effect) -> None:
    run = folding.runs[run_id]
    match effect:
        case Announce(data):
            folding.announce(run_id, data)
        case AddTasks():
            folding.add_tasks(_new_task(run, effect), count=effect.count)
        case Stop():
            folding.outcome.stops.append(effect)
        case StopOpenTasks(reason):
            folding.outcome.stops.extend(Stop(holder_of(t), reason) for t in folding.close_tasks(run))
        case Yield():
            folding.outcome.yields.append(effect)
        case PauseTasks():
            folding.outcome.yields.extend(Yield(holder_of(t), "paused") for t in folding.pause_tasks(run))
        case ResumeTasks():
            cacheable = [s.name for s in run.graph.stages if is_cacheable(run, s)]
            folding.resume_tasks(run, undecided=cacheable)
        case ReviveTasks():
            folding.revive_tasks(run, effect, status=_first_status(run, effect.stage))
        case BuryTask():
            _bury(folding, run, effect)
        case Redo(stages, producer, digest):
            folding.outcome.stops.extend(Stop(holder_of(t), "redone") for t in folding.set_aside(run, stages))
            cache.drop_answers_naming(folding.tx, digest, run_id=run_id, stage=producer)
        case Admit():
            folding.admit(run)
        case Release():
            _release(folding, run, effect)
        case SetTimer(name, delay_s, data):
            event = make_event(data, source=f"conductor/{folding.conductor}", subject=run_id, tenant=run.tenant)
            queues.set_timer(folding.tx, name, event, run_id=run_id, due_at=folding.now + delay_s)


def _release(folding: Folding, run: RunState, effect: Release) -> None:
    """Number the release within its endpoint, advance the desired state, and queue the word of it."""
    tx, now = folding.tx, folding.now
    number = endpoints.add_release(
        tx, run.tenant, effect.endpoint, model=effect.model, run_id=run.run_id, metrics=effect.metrics, now=now
    )
    desired = endpoints.advance_endpoint(
        tx, run.tenant, effect.endpoint, release=number, model=effect.model, run_id=run.run_id, now=now
    )
    event = endpoints.desired_event(desired, tenant=run.tenant)
    folding.journal(event)
    folding.send_apart(endpoints.DESIRED_KINDS, event)


def _bury(folding: Folding, run: RunState, effect: BuryTask) -> None:
    """Set a task aside with what is known of its attempts, and say so."""
    task, key = effect.task, effect.task.key
    workers = [w for w in (task.worker, *dead_letters.latest_workers(folding.tx, key)) if w]
    died = TaskDied(
        run_id=key.run_id, stage=key.stage, phase=key.phase, round=key.round, index=key.idx, reason=effect.reason,
        error=effect.error, workers=tuple(workers[: dead_letters.MAX_WORKERS]),
    )  # fmt: skip
    dead_letters.add_dead_letter(folding.tx, run.tenant, died, fence=task.fence, now=folding.now)
    folding.announce(key.run_id, died)


def _would_release(run: RunState, data: Contract) -> bool:
    return (
        isinstance(data, AttemptSucceeded)
        and data.outputs is not None
        and any(s.name == data.stage and s.effect == "release" for s in run.graph.stages)
    )


def _hear_inbox_first(folding: Folding, run_id: str) -> None:
    """A cancel that was accepted before this release wins, though its turn to be folded had not come."""
    fold(folding, queues.take_inbox_of(folding.tx, run_id))


# --- refusals and dead letters ---------------------------------------------------------------------------------------


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


def _refuse_one(folding: Folding, event: Event, reason: str) -> None:
    folding.journal(event, refused=reason)
    log.error("event_refused", event_id=event.id, type=event.type, reason=reason)
    if event.type == event_type(EventRefused):
        return
    refusal = refusal_of(event, reason)
    if not folding.is_seen(refusal.id):
        _fold_one(folding, refusal, decode(refusal))


def _undeliverable(command: ExecuteAttempt, reason: str) -> Event:
    holder = Holder(attempt_id=command.attempt_id, fence=command.fence, nonce="", worker="")
    data = AttemptUndeliverable(
        run_id=command.run_id, stage=command.stage, phase=command.phase, index=command.index, round=command.round,
        holder=holder, reason=reason,
    )  # fmt: skip
    event_id = f"{command.attempt_id}.undeliverable"
    return make_event(data, source="conductor", subject=command.run_id, tenant=command.tenant, id=event_id)


# --- what an event is about ------------------------------------------------------------------------------------------


def key_of(data: AttemptEvent | ComputationEnded) -> TaskKey:
    return TaskKey(data.run_id, data.stage, data.round, data.phase, data.index)


def holder_of(task: TaskState) -> Holder:
    """Who holds a task's present attempt; an empty nonce means whoever comes to hold it."""
    key = task.key
    return Holder(
        attempt_id=attempt_id(key.run_id, key.stage, f"{key.phase}{key.round}", key.idx, task.fence),
        fence=max(task.fence, 1),
        nonce=task.nonce,
        worker=task.worker,
    )


def _decoded(event: Event) -> tuple[Event, Contract | errors.InvalidInput]:
    try:
        return event, decode(event)
    except errors.InvalidInput as error:
        return event, error


def _run_id(event: Event, data: Contract | errors.InvalidInput) -> str:
    """The run that an event is about; its subject, if the data cannot be read. Empty if it is about none."""
    return event.subject if isinstance(data, errors.InvalidInput) else str(getattr(data, "run_id", ""))


def _id_of_refused(event: Event, data: Contract | errors.InvalidInput) -> tuple[str, ...]:
    return (f"{event.id}.refused",) if isinstance(data, errors.InvalidInput) else ()


def _new_task(run: RunState, effect: AddTasks) -> TaskState:
    spec = graph_stage(run.graph, effect.stage)
    return TaskState(
        key=TaskKey(run.run_id, effect.stage, effect.round, effect.phase, 0),
        tenant=run.tenant,
        service=spec.service,
        resource_class=spec.resources.resource_class,
        priority=run.priority,
        status=_first_status(run, effect.stage),
        limit_key=spec.limit.key if spec.limit else "",
        limit_max=spec.limit.max if spec.limit else 0,
    )


def _first_status(run: RunState, stage: str) -> TaskStatus:
    """Of a task that begins: it is looked up in the cache first, where it may be."""
    return "undecided" if is_cacheable(run, graph_stage(run.graph, stage)) else "pending"


def order_signals(orders: Sequence[Stop] | Sequence[Yield]) -> dict[str, list[dict[str, object]]]:
    """Group orders of one kind into one control signal per worker; an unknown worker means all of them."""
    signals: dict[str, list[dict[str, object]]] = {}
    for order in orders:
        key = f"control.worker.{order.holder.worker}" if order.holder.worker else "control.all"
        signals.setdefault(key, []).append(
            {
                "attempt_id": order.holder.attempt_id,
                "fence": order.holder.fence,
                "nonce": order.holder.nonce or None,
                "reason": order.reason,
            }
        )
    return signals
