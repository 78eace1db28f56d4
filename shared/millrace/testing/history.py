"""What the journal says of each run, judged by itself: nothing lost, stuck or doubled, and every result accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from millrace.ledger.database import Database
from millrace.ledger.state import FINAL_RUN

_ONCE = frozenset({"run.started.v1", "run.finished.v1", "stage.started.v1", "stage.planned.v1", "stage.finished.v1"})

ViolationKind = Literal["lost", "stuck", "doubled", "missing", "wrong"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        kind: `lost` (accepted, and gone), `stuck` (nothing will move it any more), `doubled` (done or said twice),
            `missing` (named, and not there), `wrong` (two records contradict each other).
        about: A run's id, an endpoint, a queue, a digest.
        what: What was expected and what was found.
    """

    kind: ViolationKind
    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.what}"


class _Said(NamedTuple):
    """A word about a run or stage."""

    type: str
    stage: str
    round: int
    status: str


Task = tuple[str, int, str, int]
"""Stage, round, phase and index."""


@dataclass(slots=True)
class _History:
    """What is kept of a run's events, however many tasks it has.

    Attributes:
        said: The lifecycle's words, in order.
        reported: Tasks, fences and nonces of reported successes.
        told: Tasks whose answer another run computed.
    """

    said: list[_Said] = field(default_factory=list)
    reported: set[tuple[Task, int, str]] = field(default_factory=set)
    told: set[Task] = field(default_factory=set)
    last_seq: int = 0

    @property
    def num_lives(self) -> int:
        return 1 + sum(s.type == "run.retried.v1" for s in self.said)


def check_journal(database: Database, *, accepted: Iterable[str] = (), at_rest: bool = True) -> Iterator[Violation]:
    """Judge all that the ledger holds.

    Args:
        database: The ledger's.
        accepted: Ids of runs whose submission was answered: each must be there.
        at_rest: Whether all work should have ended; otherwise what is still under way is no violation.
    """
    yield from _numbers(database)
    yield from _refusals(database)
    runs = database.read("SELECT run_id, status, error, seq, trimmed FROM runs ORDER BY run_id")
    known = {str(run_id) for run_id, *_ in runs}
    for run_id in accepted:
        if run_id not in known:
            yield Violation("lost", run_id, "its submission was accepted, and the ledger does not know it")
    for run_id, status, error, seq, trimmed in runs:
        if not trimmed:  # of a run that ended long ago, events and tasks are collected
            yield from _run(database, str(run_id), str(status), error, int(seq))
        if at_rest and status not in FINAL_RUN | {"paused"}:
            yield Violation("stuck", run_id, f"it is {status}: {_waits_for(database, run_id)}")
    yield from _endpoints(database, is_whole=not any(trimmed for *_, trimmed in runs))
    if at_rest:
        yield from _leftovers(database)


def _numbers(database: Database) -> Iterator[Violation]:
    """Each subject's events are numbered without gap; each id is there once."""
    for subject, count, first, last in database.read(
        "SELECT subject, COUNT(*), MIN(seq), MAX(seq) FROM events GROUP BY subject"
    ):
        if last - first + 1 != count:  # the oldest may have been collected, in order
            yield Violation("lost", subject, f"events {first} to {last} are numbered, and {count} are there")
    for (event_id,) in database.read("SELECT event_id FROM events GROUP BY event_id HAVING COUNT(*) > 1"):
        yield Violation("doubled", event_id, "this event is journalled more than once")


def _refusals(database: Database) -> Iterator[Violation]:
    for subject, event_id, type_, reason in database.read(
        "SELECT subject, event_id, type, refused FROM events WHERE refused <> ''"
    ):
        yield Violation("lost", subject, f"event {event_id} ({type_}) was refused: {reason}")


def _waits_for(database: Database, run_id: str) -> str:
    rows = database.read(
        "SELECT stage, phase, status, COUNT(*) FROM tasks WHERE run_id = ? AND status NOT IN ('succeeded', 'failed', 'cancelled')"
        " GROUP BY stage, phase, status",
        (run_id,),
    )
    return (
        ", ".join(f"{count} {status} {phase} of {stage}" for stage, phase, status, count in rows) or "no task is open"
    )


# --- one run ---------------------------------------------------------------------------------------------------------


def _run(database: Database, run_id: str, status: str, error: str | None, seq: int) -> Iterator[Violation]:
    history = _read(database, run_id)
    if history.last_seq > seq:
        yield Violation("wrong", run_id, f"its latest event has number {history.last_seq}, its header says {seq}")
    yield from _said_once(run_id, history)
    yield from _end(run_id, status, error, history)
    yield from _tasks(database, run_id, status, history)
    yield from _stages(database, run_id, status)
    yield from _releases(database, run_id, history)


def _read(database: Database, run_id: str) -> _History:
    history = _History()
    for seq, type_, text in database.read(
        "SELECT seq, type, data FROM events WHERE subject = ? AND refused = '' ORDER BY seq", (run_id,)
    ):
        history.last_seq = int(seq)
        if not type_.startswith(("run.", "stage.")) and type_ not in ("attempt.succeeded.v1", "computation.ended.v1"):
            continue
        data = json.loads(text)
        if type_ == "attempt.succeeded.v1":
            history.reported.add((_task(data), data["holder"]["fence"], data["holder"]["nonce"]))
        elif type_ == "computation.ended.v1":
            history.told |= {_task(data)} if data["answer"] is not None else set()
        else:
            said = _Said(type_, data.get("stage", ""), data.get("round", 0), data.get("status", ""))
            history.said.append(said)
    return history


def _task(data: Mapping[str, Any]) -> Task:
    return data["stage"], data["round"], data["phase"], data["index"]


def _said_once(run_id: str, history: _History) -> Iterator[Violation]:
    """What ends or begins something is said once; once more for each time that the run was revived."""
    said = Counter(
        (s.type, s.stage if s.type.startswith("stage.") else "", s.round) for s in history.said if s.type in _ONCE
    )
    for (type_, stage, _), count in sorted(said.items()):
        if count > history.num_lives:
            yield Violation("doubled", run_id, f"{type_} {stage} was said {count} times in {history.num_lives} lives")


def _end(run_id: str, status: str, error: str | None, history: _History) -> Iterator[Violation]:
    """The journal's last word on the run is what its header says, unless a retry was accepted and not yet begun."""
    ends = [s for s in history.said if s.type in ("run.finished.v1", "run.retried.v1")]
    said = ends[-1].status if ends else ""
    if status != "queued" and (status if status in FINAL_RUN else "") != said:
        yield Violation("wrong", run_id, f"its header says {status}, the journal {said or 'no end'}")
    if status in FINAL_RUN - {"succeeded"} and error is None:
        yield Violation("lost", run_id, f"it is {status}, and no reason is recorded")


def _tasks(database: Database, run_id: str, status: str, history: _History) -> Iterator[Violation]:
    """Each task has one accepted result, which its bound holder reported, or its run says why it has none."""
    hits = set(database.read("SELECT stage, round, phase FROM cache_uses WHERE run_id = ? AND num_hits > 0", (run_id,)))
    rows = database.read("SELECT stage, round, phase, idx, status, fence, nonce FROM tasks WHERE run_id = ?", (run_id,))
    for stage, round_, phase, index, task_status, fence, nonce in rows:
        task, name = (stage, round_, phase, index), f"task {stage}/{phase}{round_}/{index}"
        if task_status == "succeeded":
            is_shared = not nonce and (task in history.told or task[:3] in hits)
            if not is_shared and (task, fence, nonce) not in history.reported:
                what = f"{name} has a result of holder {nonce!r}, fence {fence}, which it never reported"
                yield Violation("wrong", run_id, what)
        elif task_status in ("dispatched", "running") and status in FINAL_RUN:
            yield Violation("stuck", run_id, f"{name} is {task_status} and holds a slot, and the run is {status}")
        elif status == "succeeded":
            yield Violation("wrong", run_id, f"{name} is {task_status}, and the run succeeded")


def _stages(database: Database, run_id: str, status: str) -> Iterator[Violation]:
    """Counters agree with the tasks; what ended has what an end must have."""
    done = {
        (str(stage), int(round_)): int(count)
        for stage, round_, count in database.read(
            "SELECT stage, round, COUNT(*) FROM tasks WHERE run_id = ? AND phase = 'work' AND status = 'succeeded'"
            " GROUP BY stage, round",
            (run_id,),
        )
    }
    for name, stage_status, phase, round_, num_tasks, num_done, outputs, error in database.read(
        "SELECT name, status, phase, round, num_tasks, num_done, outputs, error FROM stages WHERE run_id = ?", (run_id,)
    ):
        found = done.get((str(name), int(round_)), 0)
        if num_done > num_tasks or (phase in ("work", "merge") and num_tasks and num_done != found):
            yield Violation(
                "doubled", run_id, f"stage {name} counts {num_done} of {num_tasks} tasks done, {found} have results"
            )
        if stage_status == "succeeded" and outputs is None:
            yield Violation("missing", run_id, f"stage {name} succeeded without outputs")
        if stage_status in ("failed", "rejected") and error is None:
            yield Violation("lost", run_id, f"stage {name} is {stage_status}, and no reason is recorded")
        if status in FINAL_RUN and stage_status in ("pending", "running"):
            yield Violation("stuck", run_id, f"stage {name} is {stage_status}, and the run is {status}")


def _releases(database: Database, run_id: str, history: _History) -> Iterator[Violation]:
    rows = database.read("SELECT endpoint, COUNT(*) FROM releases WHERE run_id = ? GROUP BY endpoint", (run_id,))
    for endpoint, count in rows:
        if count > history.num_lives:
            yield Violation("doubled", run_id, f"it released {count} times to endpoint {endpoint}")


# --- the rest of the ledger ------------------------------------------------------------------------------------------


def _endpoints(database: Database, *, is_whole: bool) -> Iterator[Violation]:
    """Generations and releases are numbered without gap, and an endpoint's row is the newest of both.

    Args:
        is_whole: Whether no event was collected yet; otherwise the oldest generations' may have been.
    """
    desired: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for tenant, data in database.read(
        "SELECT tenant, data FROM events WHERE type = 'endpoint.desired.v1' ORDER BY seq"
    ):
        said = json.loads(data)
        desired.setdefault((str(tenant), str(said["name"])), []).append(said)
    for tenant, name, generation, release in database.read(
        "SELECT tenant, name, generation, release_number FROM endpoints"
    ):
        said_here = sorted(int(d["generation"]) for d in desired.get((str(tenant), str(name)), ()))
        first = 1 if is_whole else generation + 1 - len(said_here)
        if said_here != list(range(first, generation + 1)):
            yield Violation("wrong", f"endpoint {name}", f"generation {generation}; the journal has {said_here}")
        numbers = [
            int(n) for (n,) in database.read(
                "SELECT release_number FROM releases WHERE tenant = ? AND endpoint = ? ORDER BY release_number", (tenant, name)
            )
        ]  # fmt: skip
        if numbers != list(range(1, len(numbers) + 1)) or (release and release not in numbers):
            yield Violation("wrong", f"endpoint {name}", f"it is at release {release} of {numbers}")


def _leftovers(database: Database) -> Iterator[Violation]:
    """At rest nothing waits and no slot is taken."""
    for table, what in (("inbox", "accepted and never folded"), ("outbox", "decided and never sent")):
        for (count,) in database.read(f"SELECT COUNT(*) FROM {table}"):
            if count:
                yield Violation("stuck", table, f"{count} messages were {what}")
    for run_id, count in database.read(
        "SELECT c.run_id, COUNT(*) FROM computations c LEFT JOIN runs r ON r.run_id = c.run_id"
        " WHERE r.status IS NULL OR r.status IN ('succeeded', 'failed', 'rejected', 'cancelled') GROUP BY c.run_id"
    ):
        yield Violation("stuck", run_id, f"it has ended, and is still to compute {count} answers for others")
    for timer_id, run_id in database.read(
        "SELECT t.timer_id, t.run_id FROM timers t JOIN runs r ON r.run_id = t.run_id"
        " WHERE r.status IN ('succeeded', 'failed', 'rejected', 'cancelled')"
    ):
        yield Violation("stuck", run_id, f"it has ended, and its timer {timer_id} still waits")
