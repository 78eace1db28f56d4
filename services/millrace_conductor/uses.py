"""Which artifacts a stage reads and writes, for lineage. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.contracts.pipelines import GraphStage
from millrace.ledger.lineage import ArtifactUse
from millrace.ledger.state import RunState
from millrace_conductor.inputs import StageInputs


def read_by(run: RunState, spec: GraphStage, inputs: StageInputs) -> Iterator[ArtifactUse]:
    """What a stage reads; of a user's function also its code."""
    for port, bound in inputs.items():
        for ref in bound if isinstance(bound, tuple) else (bound,):
            yield ArtifactUse(ref.digest, run.run_id, spec.name, port, 0, run.tenant)
    if spec.function is not None:
        yield ArtifactUse(spec.function.code.code.digest, run.run_id, spec.name, "code", 0, run.tenant)


def newly_made(before: RunState, after: RunState) -> Iterator[ArtifactUse]:
    """What stages have made between two states of a run."""
    for name, stage in after.stages.items():
        outputs = stage.outputs
        if outputs is None or outputs == before.stages[name].outputs:
            continue
        for port, refs in (*((p, (r,)) for p, r in outputs.artifacts.items()), *outputs.lists.items()):
            yield from (ArtifactUse(ref.digest, after.run_id, name, port, 1, after.tenant) for ref in refs)
