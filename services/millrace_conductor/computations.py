"""Looking tasks up before they are dispatched: answered from the cache, or by whoever computes the same, or to be computed.

All of it happens in the dispatching transaction, in bulk, and costs no slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from millrace.contracts.artifacts import ArtifactRef
from millrace.ledger import cache
from millrace.ledger.cache import Answer, Base, Use
from millrace.ledger.state import RunState, TaskKey, TaskState
from millrace_conductor.attempts import answered
from millrace_conductor.folding import Folding
from millrace_conductor.handlers import apply
from millrace_conductor.indices import index_key
from millrace_conductor.inputs import inputs_of
from millrace_conductor.keys import base_of, code_name
from millrace_conductor.lifecycle import graph_stage
from millrace_conductor.uses import read_by
from millrace_conductor.verifying import Verifier, named_in

CHUNK = 1000
"""Tasks looked up in one transaction; the next ones right after it."""

NO_CODE = "the live workers of its service do not agree on one version of its code"


Phase = tuple[str, str, int, str]
"""Run, stage, round and phase: keys of its tasks differ by index alone."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one transaction knows from outside of it.

    Attributes:
        code: Digest of the code that live workers agree on, by service and kind.
        indices: Of the results that merges read.
        verifier: Whether what answers name is there.
        bases: Those made so far.
    """

    code: Mapping[tuple[str, str], str]
    indices: Mapping[TaskKey, ArtifactRef]
    verifier: Verifier
    bases: dict[Phase, Base | None] = field(default_factory=dict)

    def base(self, folding: Folding, task: TaskState) -> Base | None:
        """What the task's answer depends on; None where no code was agreed on."""
        phase = phase_of(task.key)
        if phase not in self.bases:
            self.bases[phase] = _base(folding, folding.runs[task.key.run_id], task, self)
        return self.bases[phase]


@dataclass(slots=True)
class _Look:
    """One look at a chunk of tasks: their keys, and what was found."""

    folding: Folding
    known: Knowledge
    counts: dict[Phase, Counter[str]] = field(default_factory=dict)
    sources: dict[Phase, str] = field(default_factory=dict)

    def count(self, task: TaskState, what: str) -> None:
        self.counts.setdefault(phase_of(task.key), Counter())[what] += 1


def decide(folding: Folding, classes: Iterable[tuple[str, str]], known: Knowledge) -> bool:
    """Look up undecided tasks: each is answered, waits for who computes the same, or becomes pending.

    Args:
        folding: The transaction. Its outcome names answers that are to be verified, and merges to be indexed.
        classes: Services and resource classes that have workers.
        known: What was learnt outside of it.

    Returns:
        Whether there were any.
    """
    folding.write_tasks()
    is_any = False
    asked = [(c, cache.undecided_tasks(folding.tx, *c, limit=CHUNK)) for c in sorted(classes)]
    for place, fetch in asked:
        found = cache.undecided_tasks(folding.tx, *place, limit=CHUNK)() if is_any else fetch()
        if found:
            is_any = True
            folding.lock(task.key.run_id for task in found)
            folding.outcome.has_more |= len(found) == CHUNK
            _decide(_Look(folding, known), [task for task in found if _is_ready(folding, task, known)])
    return is_any


def code_for(folding: Folding, task: TaskState, known: Knowledge | None) -> str | None:
    """The code that a command must ask for, empty for any; None if the task's key is out of date.

    Between the look and the command a model may have been released, or workers replaced. The task is looked up anew.
    """
    if not task.cache_key or known is None:
        return ""
    base = known.base(folding, task)
    if base is not None and task.cache_key == _key(base, task):
        return base.fields["code"]
    folding.computed.give_up(task)
    folding.save_task(replace(task, status="undecided", cache_key=""))
    folding.outcome.has_more = True
    return None


def _is_ready(folding: Folding, task: TaskState, known: Knowledge) -> bool:
    if folding.runs[task.key.run_id].status != "running":
        return False
    if task.key.phase == "merge" and index_key(task) not in known.indices:
        folding.outcome.unindexed.add(index_key(task))
        return False
    return True


def _decide(look: _Look, tasks: Sequence[TaskState]) -> None:
    folding = look.folding
    keyed: dict[TaskKey, tuple[TaskState, str]] = {}
    for task in tasks:
        base = look.known.base(folding, task)
        if base is None:
            look.count(task, "uncached")
            folding.save_task(replace(task, status="pending", cache_key=""))
        else:
            keyed[task.key] = (task, _key(base, task))
    _use_answers(look, keyed)
    alone = [pair for pair in keyed.values() if folding.runs[pair[0].key.run_id].cache != "use"]
    for task, key in alone:
        look.count(task, "misses")
        folding.save_task(replace(task, status="pending", cache_key=key))
        del keyed[task.key]
    _compute_or_wait(look, keyed)
    _write(look)


def _use_answers(look: _Look, keyed: dict[TaskKey, tuple[TaskState, str]]) -> None:
    """Answer those tasks whose answer is there, and take them out of `keyed`; so those whose answer is to be verified."""
    folding, verifier = look.folding, look.known.verifier
    wanted = {key for task, key in keyed.values() if folding.runs[task.key.run_id].cache == "use"}
    found = cache.answers(folding.tx, sorted(wanted))
    gone, used = set(), dict[str, Answer]()
    for task, key in list(keyed.values()):
        answer = found.get(key) if folding.runs[task.key.run_id].cache == "use" else None
        if answer is None or key in gone:
            continue
        named = named_in(answer.fields)
        is_whole = verifier.is_whole(key) if named else True
        if is_whole is False:
            gone.add(key)
            continue
        del keyed[task.key]
        if is_whole is None:
            folding.outcome.unverified[key] = (task.tenant, named)
            continue
        used[key] = answer
        _answer(look, task, answer)
    cache.drop_answers(folding.tx, gone)
    for key in gone:
        verifier.forget(key)
    cache.note_used(folding.tx, used, now=folding.now)


def _answer(look: _Look, task: TaskState, answer: Answer) -> None:
    folding = look.folding
    run = folding.runs[task.key.run_id]
    if run.status != "running":  # an answer before this one ended it, by a gate that did not pass
        return
    look.count(task, "hits")
    if task.key.phase == "plan":
        spec = graph_stage(run.graph, task.key.stage)
        folding.uses.update(read_by(run, spec, inputs_of(folding.tx, run, spec)))
    look.sources[phase_of(task.key)] = answer.run_id
    apply(folding, run, answered(run, task, answer.fields, folding.now), task=task)
    folding.outcome.has_more = True  # what follows from it can be looked up at once


def _compute_or_wait(look: _Look, keyed: Mapping[TaskKey, tuple[TaskState, str]]) -> None:
    folding = look.folding
    leaders = cache.lead(folding.tx, ((key, task.key) for task, key in keyed.values()), now=folding.now)
    led = [key for task, key in keyed.values() if leaders.get(key) == task.key]
    late = cache.answers(folding.tx, led)  # somebody may have ended the same computation just before we began it
    raised = []
    for task, key in keyed.values():
        if folding.runs[task.key.run_id].status != "running":
            folding.computed.led.add((key, task.key))
        elif leaders.get(key) != task.key:
            if key not in leaders:
                folding.outcome.has_more = True
                continue
            look.count(task, "shared")
            raised.append((leaders[key], task.priority))
            folding.save_task(replace(task, status="subscribed", cache_key=key))
        elif key in late:
            folding.computed.led.add((key, task.key))
            folding.outcome.has_more = True
        else:
            look.count(task, "misses")
            folding.save_task(replace(task, status="pending", cache_key=key))
    folding.write_tasks()
    cache.raise_priorities(folding.tx, raised)


def _write(look: _Look) -> None:
    """Keep what the look was about, for those who ask why."""
    folding = look.folding
    uses = []
    for phase, counts in look.counts.items():
        run_id, stage, round_, name = phase
        run, base = folding.runs[run_id], look.known.bases[phase]
        uses.append(
            Use(
                run_id, stage, name, round_, run.tenant, run.graph.pipeline, base.base if base else "",
                reason="" if base else NO_CODE, num_hits=counts["hits"], num_shared=counts["shared"],
                num_misses=counts["misses"], from_run=look.sources.get(phase, ""),
            )
        )  # fmt: skip
    bases = (look.known.bases[phase] for phase in look.counts)
    cache.put_bases(folding.tx, {b.base: b for b in bases if b is not None}.values(), now=folding.now)
    cache.put_uses(folding.tx, uses)


def _base(folding: Folding, run: RunState, task: TaskState, known: Knowledge) -> Base | None:
    key = task.key
    spec = graph_stage(run.graph, key.stage)
    code = known.code.get(code_name(spec), "")
    if not code:
        return None
    results = known.indices.get(index_key(task)) if key.phase == "merge" else None
    return base_of(run, spec, key, inputs_of(folding.tx, run, spec), code=code, results=results)


def _key(base: Base, task: TaskState) -> str:
    return f"{base.base}.{task.key.idx}"


def phase_of(key: TaskKey) -> Phase:
    return key.run_id, key.stage, key.round, key.phase
