"""Expansion: from the pipeline as written to the graph as executed. Pure; every fault names the field's path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from millrace import errors
from millrace.contracts.base import digest_of
from millrace.contracts.bindings import bind_inputs
from millrace.contracts.conditions import parse_condition
from millrace.contracts.configuring import configure
from millrace.contracts.ids import DEFAULT_TENANT, is_name
from millrace.contracts.implied import ingests, source, with_endpoint, with_second_judgement
from millrace.contracts.params import resolve_params
from millrace.contracts.pipelines import Binding, Graph, GraphStage, PipelineSpec, StageSpec
from millrace.contracts.stages import FUNCTION_KIND, Port, StageConfig, StageKind, installed_kinds

FUNCTIONS_SERVICE = "functions"

MAX_STAGES = 1000
"""All of them are state of one run. What there are many of is tasks, which have no such limit."""


def expand(
    spec: PipelineSpec,
    params: Mapping[str, Any],
    *,
    kinds: Mapping[str, StageKind] | None = None,
    tenant: str = DEFAULT_TENANT,
    seed: int = 0,
) -> Graph:
    """Resolve parameters, bind inputs, add implied stages, and order the stages.

    Args:
        spec: The pipeline as written.
        params: Values of its parameters; data sets as ArtifactRef (or its JSON) or an `s3://` URL.
        kinds: Stage kinds by name; by default those that are installed.
        tenant: Whose run it will be.
        seed: Of the run.

    Raises:
        InvalidSpec: An unknown stage, field or port, a missing or ambiguous input, a wrong type, a cycle.
    """
    kinds = installed_kinds() if kinds is None else kinds
    if len(spec.stages) > MAX_STAGES:
        raise errors.InvalidSpec(
            f"The pipeline has {len(spec.stages)} stages; at most {MAX_STAGES} are allowed.",
            field="stages",
            remedy="Map one stage over many items with `foreach`.",
        )
    values = resolve_params(spec, params)
    sources = {name: source(name, value) for name, value in values.items() if spec.params[name].type == "dataset"}
    stages = ingests(sources, kinds)
    ports: dict[str, Mapping[str, Port]] = {s.name: kinds["ingest"].outputs for s in stages}
    kinds_of = {name: _kind_of(name, stage, kinds) for name, stage in spec.stages.items()}
    for name, kind in kinds_of.items():
        ports[name] = _outputs(spec.stages[name], kind)
    earlier: list[str] = [s.name for s in stages]
    for name, stage in spec.stages.items():
        kind = kinds_of[name]
        bound = bind_inputs(name, stage, kind.inputs, sources=sources, params=values, ports=ports, earlier=earlier)
        stages.append(_graph_stage(name, stage, kind, bound, values, known=ports))
        earlier.append(name)
    stages = with_endpoint(with_second_judgement(stages))
    _check_unique(stages)
    return Graph(
        pipeline=spec.name,
        tenant=tenant,
        spec_digest=digest_of(spec.model_dump(mode="json", by_alias=True)),
        stages=tuple(_in_order(stages)),
        seed=seed,
        max_runs=spec.max_runs,
    )


def _kind_of(name: str, stage: StageSpec, kinds: Mapping[str, StageKind]) -> StageKind:
    field = f"stages.{name}"
    if not is_name(name):
        raise errors.InvalidSpec(
            f"{name!r} cannot be a stage's name.",
            field=field,
            remedy="Use lower-case letters, digits, _ and -, at most 63.",
        )
    if stage.sweep is not None:
        raise errors.InvalidSpec(
            "This version has no sweeps.",
            field=f"{field}.sweep",
            remedy="Remove `sweep`, or map over values with `foreach`.",
        )
    if stage.function is not None:
        return _function_kind(stage)
    kind = stage.kind or name
    if kind in kinds:
        return kinds[kind]
    raise errors.InvalidSpec(
        f"No stage kind {kind!r} is installed; {errors.nearest(kind, kinds)}",
        field=f"{field}.kind" if stage.kind else field,
    )


def _outputs(stage: StageSpec, kind: StageKind) -> Mapping[str, Port]:
    """Output ports of a stage: lists of artifacts where it is mapped over items and nothing merges them."""
    merges = stage.function is not None and stage.function.has_merge
    if stage.foreach is None or merges:
        return kind.outputs
    return {name: port.model_copy(update={"many": True}) for name, port in kind.outputs.items()}


def _function_kind(stage: StageSpec) -> StageKind:
    function = stage.function
    assert function is not None
    return StageKind(
        name=FUNCTION_KIND, caption="A function of the user's own.", service=FUNCTIONS_SERVICE, module="",
        config=StageConfig, inputs=function.inputs, outputs=function.outputs,
    )  # fmt: skip


def _graph_stage(
    name: str,
    stage: StageSpec,
    kind: StageKind,
    bound: Mapping[str, Binding | tuple[Binding, ...]],
    values: Mapping[str, Any],
    *,
    known: Mapping[str, Any],
) -> GraphStage:
    field = f"stages.{name}"
    config, foreach = configure(stage, kind, bound, values, field=field)
    if stage.timeout_s is not None and stage.soft_timeout_s is not None and stage.soft_timeout_s >= stage.timeout_s:
        raise errors.InvalidSpec(
            f"Expected less than `timeout_s`, {stage.timeout_s:g} s; found {stage.soft_timeout_s:g} s.",
            field=f"{field}.soft_timeout_s",
            remedy="An attempt saves a checkpoint at its soft limit; at the hard one it is killed.",
        )
    for variable, text in stage.env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or "\0" in text:
            raise errors.InvalidSpec(
                "This cannot be an environment variable.",
                field=f"{field}.env.{variable}",
                remedy="Use letters, digits and _ in its name, and no null character in its value.",
            )
    for other in stage.needs:
        if other not in known:
            raise errors.InvalidSpec(
                f"There is no stage {other!r}; {errors.nearest(other, known)}", field=f"{field}.needs"
            )
    if stage.when:
        condition = parse_condition(stage.when, field=f"{field}.when")
        condition.check(params=values, stages=known, field=f"{field}.when")
    awaited = {
        b.stage for value in bound.values() for b in (value if isinstance(value, tuple) else (value,)) if b.stage
    }
    awaited |= set(stage.needs) | (parse_condition(stage.when).stages() if stage.when else set())
    return GraphStage(
        name=name,
        kind=kind.name,
        service=kind.service,
        config=config,
        inputs=dict(bound),
        outputs={port: value.type for port, value in kind.outputs.items()},
        needs=tuple(sorted(awaited)),
        when=_bound_condition(stage.when, values),
        foreach=foreach,
        resources=stage.resources,
        retry=stage.retry,
        timeout_s=stage.timeout_s,
        soft_timeout_s=stage.soft_timeout_s,
        limit=stage.limit,
        cache=stage.cache,
        env=stage.env,
        effect=kind.effect,
        endpoint=str(config.get("endpoint", "")) if kind.effect == "release" else "",
        function=stage.function,
    )


def _bound_condition(text: str, values: Mapping[str, Any]) -> str:
    return parse_condition(text).with_params(values).text() if text else ""


def _check_unique(stages: Sequence[GraphStage]) -> None:
    """Raise InvalidSpec where a written stage, or a second parameter, has the name of a stage that expansion adds."""
    names: set[str] = set()
    for stage in stages:
        if stage.name in names:
            raise errors.InvalidSpec(
                f"{stage.name!r} is the name of a stage that expansion adds.",
                field=f"stages.{stage.name}",
                remedy="Give the stage, or the parameter it is named after, another name.",
            )
        names.add(stage.name)


def _in_order(stages: list[GraphStage]) -> list[GraphStage]:
    """Topological order that keeps the written order where it can.

    Raises:
        InvalidSpec: The stages wait for each other in a circle, which the message shows.
    """
    done: set[str] = set()
    rest, ordered = list(stages), []
    while rest:
        ready = next((s for s in rest if done.issuperset(s.needs)), None)
        if ready is None:
            raise errors.InvalidSpec(
                f"These stages wait for each other: {_circle(rest)}.",
                field="stages",
                remedy="Remove one of these inputs or needs.",
            )
        rest.remove(ready)
        ordered.append(ready)
        done.add(ready.name)
    return ordered


def _circle(stages: list[GraphStage]) -> str:
    waits = {s.name: [n for n in s.needs if any(o.name == n for o in stages)] for s in stages}
    path = [stages[0].name]
    while waits[path[-1]][0] not in path:
        path.append(waits[path[-1]][0])
    start = waits[path[-1]][0]
    return " -> ".join([*path[path.index(start) :], start])
