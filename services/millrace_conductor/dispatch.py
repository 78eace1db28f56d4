"""Dispatch: pending tasks become commands, only as many as announced capacity takes.

Slots, limits and shares are decided in one transaction at a time for each resource class and each limit's key, however
many conductors there are. Locks are taken in one order: the runs of the fold that goes before, then classes, then keys;
further runs only if nobody else has them. So nobody waits in a circle.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import structlog

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import ErrorInfo
from millrace.contracts.ids import attempt_id
from millrace.ledger import lanes
from millrace.ledger.database import Transaction
from millrace.ledger.lanes import Hold, Lane
from millrace.ledger.state import RunState, TaskKey, TaskState
from millrace_conductor.computations import Knowledge, code_for
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import apply
from millrace_conductor.indices import index_key
from millrace_conductor.inputs import inputs_of
from millrace_conductor.lifecycle import fail_stage, graph_stage, with_stage
from millrace_conductor.shares import Claim, divide, let_in
from millrace_conductor.uses import read_by
from millrace_conductor.windows import Class, Paces, series_of

log = structlog.get_logger()

FindLanes = Callable[[], list[Lane]]


def dispatch(
    folding: Folding,
    classes: Iterable[Class],
    *,
    slots: Mapping[Class, int],
    indices: Mapping[TaskKey, ArtifactRef],
    weights: Mapping[str, float] = MappingProxyType({}),
    luck: Callable[[], float] = random.random,
    known: Knowledge | None = None,
    paces: Paces | None = None,
    asked: Mapping[Class, FindLanes] = MappingProxyType({}),
) -> None:
    """Turn pending tasks into commands in the outbox: by weight among tenants, by priority and age within one.

    Args:
        folding: The transaction in which slots are counted and taken.
        classes: Where a slot may be free or a task may be new.
        slots: Announced slots.
        indices: Of the results that a merge reads. A merge without one is left pending, and named in the outcome.
        weights: Of tenants; one that is not named weighs 1.
        luck: In [0, 1), anew at each call.
        known: What cache keys are made of; None where no task has one.
        paces: How long attempts take, from which follows how many may be out; None: nobody knows.
        asked: For lanes of classes, after the last change of a task.
    """
    paces = paces or Paces()
    offered = sorted(c for c in set(classes) if slots.get(c, 0) > 0)
    if not offered:
        return
    folding.write_tasks()
    fetches = {c: asked.get(c) or lanes.find_lanes(folding.tx, *c) for c in offered}
    waiting = {c: found for c, fetch in fetches.items() if (found := fetch())}
    desk = _Desk(folding, indices)
    lanes.lock_names(folding.tx, (f"class {service}.{resource_class}" for service, resource_class in waiting))
    desk.look_at_limits(lane for found in waiting.values() for lane in found)
    for place, found in waiting.items():
        held = lanes.held_places(folding.tx, *place)
        choose = partial(_choose, desk, place, found, held=held, weights=weights, luck=luck)
        chosen = choose(window=paces.most(place, slots[place]))
        window = paces.least((series_of(folding.runs[t.key.run_id], t.key) for t in chosen), slots[place])
        if sum(held.values()) + len(chosen) > window:  # longer ones come next: what is out is worked off first
            chosen = choose(window=window)
        for task in chosen:
            if _dispatch_one(folding, task, indices, known):
                desk.note(task)
        if chosen:
            folding.write_tasks()  # the next class may share a limit's key


def _choose(
    desk: _Desk,
    place: Class,
    found: Sequence[Lane],
    *,
    window: int,
    held: Mapping[str, int],
    weights: Mapping[str, float],
    luck: Callable[[], float],
) -> list[TaskState]:
    """The tasks that take the free places of a class's window. Of each tenant only as many are read as it gets."""
    free = window - sum(held.values())
    if free <= 0:
        return []
    open_lanes = [lane for lane in found if not desk.is_saturated(lane)]
    claims = {
        t: Claim(held.get(t, 0), free, weights.get(t, 1.0), 1.0 - luck())
        for t in sorted({x.tenant for x in open_lanes})
    }
    ready: dict[str, list[TaskState]] = {tenant: [] for tenant in claims}
    while True:
        given = divide(free, claims)
        short = [tenant for tenant, num in given.items() if len(ready[tenant]) < num]
        if not short:
            return [task for tenant, num in given.items() for task in ready[tenant][:num]]
        for tenant in short:
            own = [lane for lane in open_lanes if lane.tenant == tenant]
            ready[tenant] = desk.first(place, own, num=given[tenant])
            if len(ready[tenant]) < given[tenant]:  # that is all there is: the others get what it leaves
                claims[tenant] = replace(claims[tenant], waiting=len(ready[tenant]))


@dataclass(slots=True)
class _Desk:
    """What one dispatch knows of limits, and how it reads lanes."""

    folding: Folding
    indices: Mapping[TaskKey, ArtifactRef]
    holds: dict[Lane, Hold] = field(default_factory=dict)

    def look_at_limits(self, found: Iterable[Lane]) -> None:
        """Decide alone about every limit's key that has a lane, and learn who holds it."""
        limited = {lane for lane in found if lane.limit_key}
        lanes.lock_names(self.folding.tx, (f"limit {lane.tenant}/{lane.limit_key}" for lane in limited))
        self.holds = {lane: lanes.held_limit(self.folding.tx, lane) for lane in limited}

    def is_saturated(self, lane: Lane) -> bool:
        return bool(lane.limit_key) and let_in([sys.maxsize], **self.holds[lane]._asdict()) == 0

    def note(self, task: TaskState) -> None:
        """Count a task that was just dispatched."""
        lane = Lane(task.tenant, task.limit_key)
        if task.limit_key:
            held, smallest, ruled = self.holds[lane]
            least = task.limit_max if smallest is None else min(smallest, task.limit_max)
            self.holds[lane] = Hold(held + 1, least, ruled)

    def first(self, place: Class, own: Sequence[Lane], *, num: int) -> list[TaskState]:
        """The first tasks of a tenant's lanes together, in order."""
        ready = [task for lane in own for task in self._let_in(lane, self._head(place, lane, num=num))]
        return sorted(ready, key=lambda task: (-task.priority, task.key))[:num]

    def _let_in(self, lane: Lane, head: Sequence[TaskState]) -> Sequence[TaskState]:
        if not lane.limit_key:
            return head
        return head[: let_in((task.limit_max for task in head), **self.holds[lane]._asdict())]

    def _head(self, place: Class, lane: Lane, *, num: int) -> list[TaskState]:
        """The first tasks of a lane that may be sent, passing over runs that somebody else is folding."""
        found: dict[TaskKey, TaskState] = {}
        behind: TaskState | None = None
        while len(found) < num:
            rows = lanes.lane_tasks(self.folding.tx, *place, lane, now=self.folding.now, limit=num, behind=behind)
            mine = self._claimed(rows)
            found |= {task.key: task for task in mine}
            passed = [task for task in rows if task.key not in found]
            if not passed or len(rows) < num:
                break
            behind = passed[-1]
        return list(found.values())[:num]

    def _claimed(self, rows: Sequence[TaskState]) -> list[TaskState]:
        """Those of the tasks whose runs are free, as they are now that their runs are locked."""
        folding = self.folding
        new = {task.key.run_id for task in rows} - folding.runs.keys()
        if new:  # read again: somebody else may have ended them between the reading and the lock
            folding.lock(new, skip_held=True, keys=[t.key for t in rows if t.key.run_id in new])
            rows = [folding.latest(task) if task.key.run_id in new else task for task in rows]
        mine = [task for task in rows if task.status == "pending" and self._may_run(task)]
        unindexed = {index_key(task) for task in mine if task.key.phase == "merge"} - self.indices.keys()
        folding.outcome.unindexed |= unindexed
        return [task for task in mine if task.key.phase != "merge" or index_key(task) not in unindexed]

    def _may_run(self, task: TaskState) -> bool:
        run = self.folding.runs.get(task.key.run_id)
        return run is not None and run.status == "running"


def _dispatch_one(
    folding: Folding, task: TaskState, indices: Mapping[TaskKey, ArtifactRef], known: Knowledge | None
) -> bool:
    """Write one command; whether it was."""
    run = folding.runs[task.key.run_id]
    if run.status != "running":  # ended a moment ago, by a command of its own that could not be written
        return False
    code = code_for(folding, task, known)
    if code is None:
        return False
    sent = replace(task, status="dispatched", fence=task.fence + 1, dispatched_at=folding.now)
    try:
        command = build_command(folding.tx, run, sent, results=indices.get(index_key(task)), code=code)
    except Exception as error:  # one run's fault must not hold up all others
        log.exception("command_not_written", run=run.run_id, stage=task.key.stage)
        fault = ErrorInfo(
            code="internal",
            message=f"The command of stage {task.key.stage!r} could not be written: {type(error).__name__}: {error}",
            remedy="This is a fault of Millrace: please report it, with the conductor's log.",
        )
        failed = replace(task, status="failed")
        apply(folding, run, fail_stage(run, task.key.stage, fault, folding.now, task=failed), task=task)
        return False
    stage = run.stages[task.key.stage]
    folding.save_task(sent)
    folding.save_run(with_stage(run, replace(stage, attempts=stage.attempts + 1)))
    if task.key.phase == "plan":
        folding.uses.update(read_by(run, graph_stage(run.graph, command.stage), command.inputs))
    folding.send("command", command)
    return True


def build_command(
    tx: Transaction, run: RunState, task: TaskState, *, results: ArtifactRef | None = None, code: str = ""
) -> ExecuteAttempt:
    """Write the command of a task's next attempt: everything by reference."""
    spec, stage, key = graph_stage(run.graph, task.key.stage), run.stages[task.key.stage], task.key
    return ExecuteAttempt(
        tenant=run.tenant,
        run_id=run.run_id,
        stage=spec.name,
        kind=spec.kind,
        service=spec.service,
        resource_class=spec.resources.resource_class,
        phase=key.phase,
        index=key.idx,
        round=key.round,
        attempt_id=attempt_id(run.run_id, spec.name, f"{key.phase}{key.round}", key.idx, task.fence),
        fence=task.fence,
        config=spec.config,
        inputs=inputs_of(tx, run, spec),
        plan=stage.plan,
        results=results,
        function=spec.function.code if spec.function else None,
        foreach=spec.foreach,
        outputs=spec.outputs,
        env=spec.env,
        code_digest=code,
        seed=run.graph.seed,
        cpu=spec.resources.cpu,
        timeout_s=spec.timeout_s,
        soft_timeout_s=spec.soft_timeout_s,
        trace=dict(run.trace),
    )
