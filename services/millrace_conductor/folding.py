"""One transaction's working set: the runs that it has locked, read in few queries, changed in memory, written in few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from millrace.contracts.base import Contract
from millrace.contracts.events import Event, make_event
from millrace.contracts.ids import new_id
from millrace.contracts.pipelines import RunStatus
from millrace.ledger import admissions, cache, journal, lineage, pausing, queues, runs, tasks
from millrace.ledger.database import Transaction
from millrace.ledger.lineage import ArtifactUse
from millrace.ledger.queues import OutboxKind, Outgoing
from millrace.ledger.state import RunState, TaskKey, TaskState, TaskStatus
from millrace_conductor.effects import ReviveTasks, Stop, Yield
from millrace_conductor.settling import Computed, settle
from millrace_conductor.verifying import Named
from millrace_conductor.windows import Took


@dataclass(slots=True)
class Outcome:
    """What is left to do after the commit, all of it transient: a lost word is repeated at the next heartbeat.

    Attributes:
        stops: Holders to tell to stop.
        yields: Holders to ask for their attempts.
        changed: Status of each run that has news, by id.
        rows: Of the outbox, for the relay.
        unindexed: Merge tasks that wait for their index of results.
        num_admitted: How many runs may start now: their inbox says so.
        unverified: Cached answers, by key, with their tenant and what of them is to be looked for in the store.
        has_more: Whether tasks are left to look up, or another run's inbox has news.
        took: How long attempts worked whose success was accepted.
    """

    stops: list[Stop] = field(default_factory=list)
    yields: list[Yield] = field(default_factory=list)
    changed: dict[str, RunStatus] = field(default_factory=dict)
    rows: list[Outgoing] = field(default_factory=list)
    unindexed: set[TaskKey] = field(default_factory=set)
    num_admitted: int = 0
    unverified: dict[str, tuple[str, Named]] = field(default_factory=dict)
    has_more: bool = False
    took: list[Took] = field(default_factory=list)


class Folding:
    """The working set. Nothing is locked but what `lock` and the choice of pending tasks lock.

    Args:
        tx: The transaction that makes it all durable at once.
        conductor: Id of this conductor; its relay sends what is queued here.
        now: Seconds.
        sent: Rows of the outbox that were sent, to be removed.
    """

    def __init__(self, tx: Transaction, *, conductor: str, now: float, sent: Sequence[str] = ()) -> None:
        self.tx = tx
        self.conductor = conductor
        self.now = now
        self.outcome = Outcome()
        self.runs: dict[str, RunState] = {}
        self.touched: set[tuple[str, str]] = set()
        self.admitting: set[tuple[str, str]] = set()
        self.computed = Computed()
        self.uses: set[ArtifactUse] = set()
        self._as_read: dict[str, RunState] = {}
        self._tasks: dict[TaskKey, TaskState] = {}
        self._unsaved: dict[TaskKey, TaskState] = {}
        self._sent = sent
        self._seen: set[str] = set()
        self._seqs: dict[str, int] = {}
        self._events: list[tuple[Event, int, str]] = []
        self._messages: list[tuple[OutboxKind, Contract]] = []

    # --- reading

    def lock(
        self,
        run_ids: Iterable[str],
        *,
        skip_held: bool = False,
        event_ids: Iterable[str] = (),
        keys: Iterable[TaskKey] = (),
    ) -> None:
        """Lock runs and read them; those that there are, and that nobody else has, stand in `runs` afterwards.

        Args:
            run_ids: Those that are locked already are passed over.
            skip_held: Pass over runs that another transaction has.
            event_ids: Learn which of these are journalled already.
            keys: Tasks to read, of these runs or of those locked before.
        """
        asked = runs.lock_runs(self.tx, set(run_ids) - self.runs.keys(), skip_held=skip_held)
        seen = journal.seen(self.tx, event_ids)
        loaded = tasks.load_tasks(self.tx, [key for key in keys if key not in self._tasks])
        found = asked()
        self.runs |= found
        self._as_read |= found
        self._seqs |= {run_id: run.seq for run_id, run in found.items()}
        self._seen |= seen()
        self._tasks |= {key: task for key, task in loaded().items() if key.run_id in self.runs}

    def is_seen(self, event_id: str) -> bool:
        return event_id in self._seen

    def load_tasks(self, keys: Iterable[TaskKey]) -> None:
        """Read tasks of locked runs."""
        self._tasks |= tasks.load_tasks(
            self.tx, [k for k in keys if k.run_id in self.runs and k not in self._tasks]
        )()  # fmt: skip

    def task(self, key: TaskKey) -> TaskState | None:
        if key not in self._tasks:
            self.load_tasks([key])
        return self._tasks.get(key)

    def latest(self, task: TaskState) -> TaskState:
        """A task as it is now, as far as that was read."""
        return self._tasks.get(task.key, task)

    # --- changing

    def save_run(self, run: RunState) -> None:
        self.runs[run.run_id] = run

    def save_task(self, task: TaskState) -> None:
        if task.status in ("pending", "undecided") and self.runs[task.key.run_id].status == "paused":
            task = replace(task, status="paused")  # whatever made it pending: it waits for its run first
        self._tasks[task.key] = self._unsaved[task.key] = task
        if task.status in ("failed", "cancelled"):
            self.computed.give_up(task)
        if task.status != "running":  # a slot is free again, or something may start
            self.touched.add((task.service, task.resource_class))

    def add_tasks(self, like: TaskState, *, count: int) -> None:
        tasks.add_tasks(self.tx, like, count=count)
        if self.runs[like.key.run_id].status == "paused":
            pausing.pause_tasks(self.tx, like.key.run_id)
        self.touched.add((like.service, like.resource_class))

    def close_tasks(self, run: RunState) -> list[TaskState]:
        """Close what is open of a run; return the tasks that somebody may be working on."""
        self._leave_tasks(run)
        stopped = tasks.open_tasks(self.tx, run.run_id)
        tasks.close_tasks(self.tx, run.run_id)
        self.computed.closed.add(run.run_id)
        return stopped

    def pause_tasks(self, run: RunState) -> list[TaskState]:
        """Let no task of a run start; return the tasks that somebody may be working on."""
        self._leave_tasks(run)
        pausing.pause_tasks(self.tx, run.run_id)
        return tasks.open_tasks(self.tx, run.run_id)

    def resume_tasks(self, run: RunState, *, undecided: Iterable[str]) -> None:
        """Let the paused tasks of a run start; those of some stages are looked up in the cache first."""
        self._leave_tasks(run)
        pausing.resume_tasks(self.tx, run.run_id, undecided=undecided)

    def revive_tasks(self, run: RunState, wanted: ReviveTasks, *, status: TaskStatus) -> None:
        """Let what did not succeed of a stage's phase begin again, in a status."""
        self._leave_tasks(run)
        pausing.revive_tasks(self.tx, run.run_id, wanted.stage, wanted.round, wanted.phase, status=status)

    def set_aside(self, run: RunState, stages: Sequence[str]) -> list[TaskState]:
        """Set all tasks of stages aside; return the tasks that somebody may be working on."""
        self._leave_tasks(run)
        stopped = [task for task in tasks.open_tasks(self.tx, run.run_id) if task.key.stage in stages]
        tasks.set_aside(self.tx, run.run_id, stages)
        self.computed.led |= {led for led in cache.led_by(self.tx, run.run_id) if led[1].stage in stages}
        return stopped

    def admit(self, run: RunState) -> None:
        """See at the end, when all is written, which runs of this one's pipeline may start."""
        self.admitting.add((run.tenant, run.graph.pipeline))

    def _leave_tasks(self, run: RunState) -> None:
        """A statement is about to change tasks of a run in the database: write those in memory, and forget them."""
        self.write_tasks()
        self._tasks = {key: task for key, task in self._tasks.items() if key.run_id != run.run_id}
        self.touched |= {(s.service, s.resources.resource_class) for s in run.graph.stages}

    def journal(self, event: Event, *, refused: str = "") -> None:
        """Journal an event under the next number of its subject."""
        self._seen.add(event.id)
        if event.subject not in self._seqs:
            journal.append_event(self.tx, event, refused=refused)
            return
        self._seqs[event.subject] += 1
        self._events.append((event, self._seqs[event.subject], refused))

    def announce(self, run_id: str, data: Contract) -> None:
        """Journal a fact about a run and queue it for the bus."""
        event = make_event(data, source=f"conductor/{self.conductor}", subject=run_id, tenant=self.runs[run_id].tenant)
        self.journal(event)
        self.send("event", event)

    def send(self, kind: OutboxKind, message: Contract) -> None:
        """Queue a message for the relay."""
        self._messages.append((kind, message))

    def send_apart(self, kinds: Iterable[OutboxKind], message: Contract) -> None:
        """Queue one message for each of some ways, in a row of its own: it may have to wait where others need not."""
        self.outcome.rows.append(Outgoing(new_id("out"), [(kind, message) for kind in kinds]))

    # --- writing

    def write_tasks(self) -> None:
        """Write changed tasks now: what follows asks the database about tasks."""
        tasks.save_tasks(self.tx, self._unsaved.values())
        self._unsaved = {}

    def write(self) -> None:
        """Write everything."""
        self.write_tasks()
        as_they_are = ((before, replace(self.runs[i], seq=self._seqs[i])) for i, before in self._as_read.items())
        runs.save_runs(self.tx, as_they_are)
        journal.append_numbered(self.tx, self._events)
        lineage.put_uses(self.tx, self.uses)
        self.outcome.has_more |= settle(self.tx, self.computed, conductor=self.conductor, now=self.now) > 0
        if self._messages:
            self.outcome.rows.append(Outgoing(new_id("out"), self._messages))
        queues.put_outbox(self.tx, self.outcome.rows, owner=self.conductor, now=self.now)
        queues.mark_sent(self.tx, self._sent)
        for tenant, pipeline in sorted(self.admitting):
            self.outcome.num_admitted += admissions.admit(self.tx, tenant, pipeline, now=self.now)
