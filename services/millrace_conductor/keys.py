"""Cache keys: everything that a task's answer depends on, field by field, so that a miss can be explained. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json, digest_of
from millrace.contracts.caching import why_never
from millrace.contracts.pipelines import GraphStage
from millrace.contracts.stages import FUNCTION_KIND, installed_kinds
from millrace.ledger.cache import Base
from millrace.ledger.state import RunState, TaskKey
from millrace_conductor.inputs import StageInputs


def is_cacheable(run: RunState, spec: GraphStage) -> bool:
    """Whether the run, the stage and its kind allow that answers are kept."""
    return not why_never(run.cache, spec, installed_kinds().get(spec.kind))


def base_of(
    run: RunState, spec: GraphStage, key: TaskKey, inputs: StageInputs, *, code: str, results: ArtifactRef | None = None
) -> Base:
    """What answers to the tasks of one phase depend on.

    Args:
        run, spec: The run, and its stage as executed.
        key: Of any task of the phase; its index plays no part.
        inputs: What the stage reads.
        code: Digest of the code that workers agree on.
        results: Index of what a merge reads.
    """
    kind = installed_kinds().get(spec.kind)
    plan = run.stages[spec.name].plan
    fields = {
        "tenant": run.tenant,
        "kind": spec.kind,
        "code": code,
        "phase": key.phase,
        "seed": str(run.graph.seed),
        **dict(_flat("with", spec.config)),
        **{f"inputs.{port}": _digests(bound) for port, bound in inputs.items()},
        **{f"outputs.{port}": type_ for port, type_ in spec.outputs.items()},
        **{f"env.{name}": value for name, value in spec.env.items()},
    }
    if spec.foreach is not None:
        fields |= dict(_flat("foreach", spec.foreach.model_dump(mode="json")))
    if spec.function is not None:
        source = spec.function.code
        fields["function"] = f"{source.code.digest} {source.module}:{source.name}"
    if kind is None or not kind.device_independent:
        fields["device"] = spec.resources.resource_class
    if key.phase != "plan":
        fields |= {"plan": plan.digest if plan else "", "round": str(key.round)}
    if key.phase == "merge":
        fields["results"] = results.digest if results else ""
    return Base(digest_of(fields), run.tenant, spec.kind, key.phase, fields)


def code_name(spec: GraphStage) -> tuple[str, str]:
    """The service and the kind under which workers announce the code of a stage."""
    return spec.service, FUNCTION_KIND if spec.function is not None else spec.kind


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Values of a configuration by dotted path, as canonical JSON; an empty object or list is a value."""
    if isinstance(value, Mapping) and value:
        for name in sorted(value):
            yield from _flat(f"{path}.{json.dumps(name) if '.' in name else name}", value[name])
    else:
        yield path, canonical_json(value)


def _digests(bound: ArtifactRef | tuple[ArtifactRef, ...]) -> str:
    return ",".join(ref.digest for ref in bound) if isinstance(bound, tuple) else bound.digest
