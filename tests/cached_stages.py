"""A conductor's transactions over stages that may be cached, with a worker by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hands import about, submit
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt, FunctionCode
from millrace.contracts.events import (
    AttemptFailed,
    AttemptSucceeded,
    ErrorInfo,
    Event,
    Holder,
    StageOutputs,
    make_event,
)
from millrace.contracts.pipelines import Binding, FunctionSpec, Graph, GraphStage, Retry
from millrace.ledger import queues
from millrace.ledger.ledger import open_ledger
from millrace.ledger.state import TaskKey
from millrace.store import Store
from millrace.store.pages import write_pages
from millrace_conductor.computations import Knowledge, decide
from millrace_conductor.dispatch import dispatch
from millrace_conductor.folding import Folding, Outcome
from millrace_conductor.handlers import fold
from millrace_conductor.verifying import Verifier

PLACE = ("functions", "cpu")


def cached(name: str = "a", *, source: str = "c" * 64, name_of: str = "f", **fields: Any) -> GraphStage:
    """A stage of a user's function; `source` is the digest of its code."""
    code = FunctionCode(code=ArtifactRef(digest=source, type="code"), module="m", name=name_of)
    function = FunctionSpec(code=code, inputs={}, outputs={})
    fields = {"inputs": {}, "outputs": {}, "needs": (), "config": {"rate": 1}, **fields}
    return GraphStage(
        name=name, kind="function", service="functions", function=function, retry=Retry(backoff_s=0.0), **fields
    )


def graph(*stages: GraphStage, **fields: Any) -> Graph:
    return Graph(pipeline="p", spec_digest="d" * 64, stages=stages or (cached(),), **fields)


def reading(name: str, port: str, producer: str) -> GraphStage:
    """A stage that reads what another has made."""
    return cached(name, inputs={"data": Binding(stage=producer, port=port)}, needs=(producer,))


@dataclass
class Cacher:
    """One conductor without threads. `settle` goes on until nothing is left to look up."""

    url: str
    store: Store
    code: dict[tuple[str, str], str] = field(default_factory=lambda: {("functions", "function"): "v1"})
    slots: int = 10_000

    def __post_init__(self) -> None:
        self.ledger = open_ledger(self.url)
        self.verifier = Verifier(lambda _: self.store)
        self.indices: dict[TaskKey, ArtifactRef] = {}

    def fold(self, *events: Event) -> Outcome:
        slots = {PLACE: self.slots}

        def both(tx: Any) -> Outcome:
            folding = Folding(tx, conductor="con", now=1000.0)
            fold(folding, [*events, *queues.take_inbox(tx, limit=1000)])
            known = Knowledge(self.code, self.indices, self.verifier)
            decide(folding, [PLACE], known)
            dispatch(folding, [PLACE], slots=slots, indices=self.indices, known=known)
            folding.write()
            return folding.outcome

        return self.ledger.database.transact(both)

    def settle(self, *events: Event) -> None:
        outcome = self.fold(*events)
        while outcome.has_more or outcome.unverified or outcome.unindexed:
            self.verifier.want(outcome.unverified)
            self.verifier.verify_wanted()
            for key in outcome.unindexed:
                self.indices[key] = write_pages(self.store, "plan", [{"results": "of a stage"}])
            outcome = self.fold()

    def submit(self, graph_: Graph, **fields: Any) -> str:
        return submit(self.ledger, graph_, **fields)

    def start(self, graph_: Graph, *, cache: str = "use", **fields: Any) -> str:
        run_id = self.submit(graph_, **fields)
        if cache != "use":
            self.ledger.database.transact(
                lambda tx: tx.run("UPDATE runs SET cache = ? WHERE run_id = ?", (cache, run_id))
            )
        self.settle()
        return run_id

    def commands(self) -> list[ExecuteAttempt]:
        """Commands that were written since the last call."""
        rows = queues.read_outbox(self.ledger.database, owner="con", stale_before=0, limit=10_000)
        self.ledger.database.transact(lambda tx: queues.mark_sent(tx, [row.id for row in rows]))
        return [ExecuteAttempt.model_validate(m) for row in rows for kind, m in row.messages if kind == "command"]

    def work(self, answers: Mapping[str, Any] | None = None) -> int:
        """Execute commands until there are none; return how many there were."""
        done = 0
        while new := self.commands():
            done += len(new)
            self.settle(*(success(command, **(answers or {}).get(command.stage, {})) for command in new))
        return done

    def status(self, run_id: str) -> str:
        return self.ledger.run("default", run_id).status

    def statuses(self, run_ids: Iterable[str]) -> set[str]:
        return {self.status(run_id) for run_id in run_ids}


def holder_of(command: ExecuteAttempt) -> Holder:
    return Holder(attempt_id=command.attempt_id, fence=command.fence, nonce="n", worker="w")


def success(command: ExecuteAttempt, *, plan: ArtifactRef | None = None, num_tasks: int = 0, **outputs: Any) -> Event:
    """The end of an attempt: outputs, a task's result, or a plan of so many tasks."""
    say = about(command, holder_of(command))
    if command.phase == "work":
        data = AttemptSucceeded(**say, result={"index": command.index})
    elif command.phase == "plan" and plan is not None:
        data = AttemptSucceeded(**say, plan=plan, num_tasks=num_tasks)
    else:
        data = AttemptSucceeded(**say, outputs=StageOutputs(**outputs))
    return make_event(data, source="worker/w", subject=command.run_id)


def failure(command: ExecuteAttempt, **error: Any) -> Event:
    told = ErrorInfo(**{"code": "stage_failed", "message": "no", **error})
    data = AttemptFailed(**about(command, holder_of(command)), error=told)
    return make_event(data, source="worker/w", subject=command.run_id)
