"""What a stage reads: the artifacts at its input ports, as they are when its command is written."""

from __future__ import annotations

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.ledger import endpoints
from millrace.ledger.database import Transaction
from millrace.ledger.state import RunState

StageInputs = dict[str, ArtifactRef | tuple[ArtifactRef, ...]]


def inputs_of(tx: Transaction, run: RunState, spec: GraphStage) -> StageInputs:
    """Artifacts by port; a tuple where the port takes many. `current` is the endpoint's model at this moment."""
    inputs: StageInputs = {}
    for port, bound in spec.inputs.items():
        if isinstance(bound, tuple):
            inputs[port] = tuple(artifact for b in bound for artifact in _artifacts(run, b))
        else:
            inputs[port] = _artifact(run, bound)
    if spec.endpoint and spec.effect == "none" and "current" not in inputs:
        current = endpoints.current_model(tx, run.tenant, spec.endpoint)
        if current is not None:
            inputs["current"] = current
    return inputs


def _artifacts(run: RunState, binding: Binding) -> tuple[ArtifactRef, ...]:
    """What a binding of a list stands for: one artifact, or all that a mapped stage made."""
    outputs = run.stages[binding.stage].outputs if binding.stage else None
    made = outputs.lists.get(binding.port) if outputs is not None else None
    return made if made is not None else (_artifact(run, binding),)


def _artifact(run: RunState, binding: Binding) -> ArtifactRef:
    if binding.artifact is not None:
        return binding.artifact
    outputs = run.stages[binding.stage].outputs
    assert outputs is not None, f"{binding.stage} has no outputs yet"
    return outputs.artifacts[binding.port]
