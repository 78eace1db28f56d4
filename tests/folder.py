"""A conductor by hand: its transactions on a real ledger, without its threads; and what workers would say to it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hands import submit, succeeded
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import CancelRequested, Event, Holder, make_event
from millrace.contracts.pipelines import Binding, Graph, GraphStage
from millrace.ledger import queues
from millrace.ledger.ledger import open_ledger
from millrace_conductor.dispatch import dispatch
from millrace_conductor.folding import Folding, Outcome
from millrace_conductor.handlers import fold

MODEL = ArtifactRef(digest="b" * 64, type="model")
SLOTS = {("functions", "cpu"): 100}


class Folder:
    """A conductor's transactions, without its threads."""

    def __init__(self, url: str) -> None:
        self.ledger = open_ledger(url)
        self.now = 1000.0

    def transact(self, work: Callable[[Folding], None], *, slots: dict[tuple[str, str], int] | None = None) -> Outcome:
        def both(tx: object) -> Outcome:
            folding = Folding(tx, conductor="con", now=self.now)  # type: ignore[arg-type]  # a Transaction
            work(folding)
            dispatch(folding, SLOTS, slots=SLOTS if slots is None else slots, indices={})
            folding.write()
            return folding.outcome

        return self.ledger.database.transact(both)

    def fold(self, *events: Event) -> Outcome:
        return self.transact(lambda folding: fold(folding, events))

    def take(self) -> Outcome:
        return self.transact(lambda folding: fold(folding, queues.take_inbox(folding.tx, limit=100)))

    def commands(self) -> list[ExecuteAttempt]:
        rows = queues.read_outbox(self.ledger.database, owner="con", stale_before=0, limit=1000)
        return [ExecuteAttempt.model_validate(m) for row in rows for kind, m in row.messages if kind == "command"]

    def run(self, graph: Graph) -> tuple[str, ExecuteAttempt]:
        """Start a run; return its id and the command of its first stage."""
        run_id = submit(self.ledger, graph)
        self.take()
        return run_id, next(c for c in self.commands() if c.run_id == run_id)

    def status(self, run_id: str) -> str:
        return self.ledger.run("default", run_id).status


def release_of(endpoint: str) -> Graph:
    stage = GraphStage(
        name="deploy", kind="noop", service="functions", config={}, inputs={"model": Binding(artifact=MODEL)}, outputs={},
        needs=(), effect="release", endpoint=endpoint,
    )  # fmt: skip
    return Graph(pipeline="p", spec_digest="d" * 64, stages=(stage,))


def event_of(command: ExecuteAttempt, data: Contract | None = None) -> Event:
    """What a worker of its own says of a command's attempt: its success, unless it is given."""
    return make_event(data or succeeded(command, holder_of(command)), source="worker/w", subject=command.run_id)


def holder_of(command: ExecuteAttempt) -> Holder:
    return Holder(attempt_id=command.attempt_id, fence=command.fence, nonce="n", worker="w")


def cancel(run_id: str) -> Event:
    return make_event(CancelRequested(run_id=run_id), source="client", subject=run_id)


def together(*works: Callable[[], object]) -> None:
    """Run works at the same instant; an error of one fails the test."""
    barrier, faults = threading.Barrier(len(works)), list[Exception]()

    def run(work: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            work()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
