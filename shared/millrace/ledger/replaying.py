"""Replaying a run: the same graph computed anew, and what both made, compared by digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from millrace import errors
from millrace.contracts.events import Origin, RunSubmitted, StageOutputs
from millrace.contracts.pipelines import Binding, Graph, GraphStage
from millrace.contracts.provenance import ComparisonView, StageComparison
from millrace.contracts.stages import installed_kinds
from millrace.contracts.views import RunView
from millrace.ledger.database import Database

Digests = dict[str, tuple[str, ...]]
Verdict = Literal["equal", "differs", "measured", "follows", "left_out", "missing"]


def graph_of(database: Database, tenant: str, run_id: str) -> Graph:
    """The graph that a run executes. Raises NotFound."""
    rows = database.read("SELECT graph FROM runs WHERE tenant = ? AND run_id = ?", (tenant, run_id))
    if not rows:
        raise errors.NotFound(f"There is no run {run_id!r}.", remedy="See `millrace runs`.", field="run_id")
    return Graph.received_json(rows[0][0])


def replay_of(view: RunView, graph: Graph, *, run_id: str, trace: Mapping[str, str]) -> RunSubmitted:
    """The submission that executes a run's graph again, without the cache, and without what has effects outside.

    Raises:
        Conflict: Nothing of the graph is left then.
    """
    left_out: set[str] = set()
    for stage in graph.stages:  # in topological order
        if stage.effect != "none" or left_out & set(stage.needs):
            left_out.add(stage.name)
    stages = tuple(s for s in graph.stages if s.name not in left_out)
    if not stages:
        raise errors.Conflict("The run has no stage without an effect outside.", remedy="There is nothing to replay.")
    return RunSubmitted(
        run_id=run_id, graph=graph.model_copy(update={"stages": stages}), params=view.params, labels=view.labels,
        priority=view.priority, trace=dict(trace), cache="off", origin=Origin(kind="replay", of=view.run_id),
    )  # fmt: skip


def compare(graph: Graph, first: RunView, second: RunView) -> ComparisonView:
    """Compare what two runs of a graph made, stage by stage; the graph is the first one's."""
    made = [{s.name: _digests(s.outputs) for s in view.stages if s.outputs is not None} for view in (first, second)]
    before, after = ({s.name: s.status for s in view.stages} for view in (first, second))
    stages = tuple(
        _compare_stage(
            stage,
            *made,
            is_known=stage.name in after,
            is_skipped=before.get(stage.name) == after.get(stage.name) == "skipped",
        )
        for stage in graph.stages
    )
    is_equal = all(s.verdict not in ("differs", "missing") for s in stages)
    return ComparisonView(run_id=first.run_id, replay=second.run_id, is_equal=is_equal, stages=stages)


def _compare_stage(
    stage: GraphStage, first: Mapping[str, Digests], second: Mapping[str, Digests], *, is_known: bool, is_skipped: bool
) -> StageComparison:
    before, after = first.get(stage.name), second.get(stage.name)
    ports: tuple[str, ...] = ()
    verdict: Verdict
    if not is_known:
        verdict = "left_out"
    elif before is None or after is None:
        verdict = "equal" if is_skipped else "missing"
    else:
        ports = tuple(sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p)))
        kind = installed_kinds().get(stage.kind)
        if not ports:
            verdict = "equal"
        elif any(first.get(name) != second.get(name) for name in _sources(stage)):
            verdict = "follows"
        else:
            verdict = "measured" if kind is not None and kind.bytes == "measured" else "differs"
    return StageComparison(stage=stage.name, kind=stage.kind, verdict=verdict, ports=ports)


def _digests(outputs: StageOutputs) -> Digests:
    return {port: (ref.digest,) for port, ref in outputs.artifacts.items()} | {
        port: tuple(ref.digest for ref in refs) for port, refs in outputs.lists.items()
    }


def _sources(stage: GraphStage) -> set[str]:
    bound = [b for port in stage.inputs.values() for b in (port if isinstance(port, tuple) else (port,))]
    return {b.stage for b in bound if isinstance(b, Binding) and b.stage}
