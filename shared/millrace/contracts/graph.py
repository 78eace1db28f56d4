"""Expansion: from the pipeline as written to the graph as executed. Pure; every fault names the field's path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import digest_of
from millrace.contracts.bindings import Source, bind_inputs
from millrace.contracts.commands import Foreach
from millrace.contracts.conditions import parse_condition
from millrace.contracts.ids import DEFAULT_TENANT, is_name
from millrace.contracts.loading import validate
from millrace.contracts.params import resolve_params, substitute
from millrace.contracts.pipelines import Binding, Graph, GraphStage, PipelineSpec, StageSpec
from millrace.contracts.stages import FUNCTION_KIND, Port, StageConfig, StageKind, installed_kinds

FUNCTIONS_SERVICE = "functions"


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
    if spec.triggers:
        raise errors.InvalidSpec(
            "This version starts runs by submission only.",
            field="triggers",
            remedy="Remove `triggers` and submit from cron.",
        )
    values = resolve_params(spec, params)
    sources = {name: _source(name, value) for name, value in values.items() if spec.params[name].type == "dataset"}
    stages = _ingests(sources, kinds)
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
    stages = _with_endpoint(_with_second_judgement(stages))
    return Graph(
        pipeline=spec.name,
        tenant=tenant,
        spec_digest=digest_of(spec.model_dump(mode="json", by_alias=True)),
        stages=tuple(_in_order(stages)),
        seed=seed,
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
    config = substitute(stage.with_, values, field=f"{field}.with")
    if stage.function is not None:
        config = _function_config(stage, config, field=f"{field}.with")
    else:
        config = validate(kind.config, config, field=f"{field}.with").model_dump(mode="json", by_alias=True)
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
        foreach=_foreach(stage, bound, values, field=f"{field}.foreach"),
        resources=stage.resources,
        retry=stage.retry,
        timeout_s=stage.timeout_s,
        cache=stage.cache,
        env=stage.env,
        effect=kind.effect,
        endpoint=str(config.get("endpoint", "")) if kind.effect == "release" else "",
        function=stage.function,
    )


def _bound_condition(text: str, values: Mapping[str, Any]) -> str:
    return parse_condition(text).with_params(values).text() if text else ""


def _function_config(stage: StageSpec, config: dict[str, Any], *, field: str) -> dict[str, Any]:
    assert stage.function is not None
    names = stage.function.params
    for key in config:
        if key not in names:
            raise errors.InvalidSpec(
                f"The function has no parameter {key!r}; {errors.nearest(key, names)}", field=f"{field}.{key}"
            )
    for key, schema in names.items():
        has_default = isinstance(schema, Mapping) and "default" in schema
        if key not in config and not has_default and not (key == "item" and stage.foreach is not None):
            raise errors.InvalidSpec(
                "This parameter of the function is required.", field=f"{field}.{key}", remedy="Add it under `with`."
            )
    return config


def _foreach(
    stage: StageSpec, bound: Mapping[str, Binding | tuple[Binding, ...]], values: Mapping[str, Any], *, field: str
) -> Foreach | None:
    if stage.foreach is None:
        return None
    value = stage.foreach
    if isinstance(value, str) and not value.startswith("$"):
        for port, binding in bound.items():
            if isinstance(binding, Binding) and value in (port, f"{binding.stage}.{binding.port}"):
                return Foreach(shards_of=port)
        raise errors.InvalidSpec(
            f"{value!r} is none of this stage's inputs; {errors.nearest(value, bound)}",
            field=field,
            remedy="Name an input port that takes a data set.",
        )
    items = substitute(value, values, field=field)
    if not isinstance(items, (list, tuple)) or not items:
        raise errors.InvalidSpec(f"Expected a list with at least one item; found {items!r}.", field=field)
    return Foreach(items=tuple(items))


def _source(param: str, value: ArtifactRef | str) -> Source:
    """A data set parameter: an artifact, or an outside location that an implied `ingest` stage copies first."""
    if isinstance(value, str):
        return Source(type="source", binding=Binding(stage=f"ingest_{param}", port="source"), uri=value)
    return Source(type=value.type, binding=Binding(artifact=value), uri="")


def _ingests(sources: Mapping[str, Source], kinds: Mapping[str, StageKind]) -> list[GraphStage]:
    stages = []
    for source in sources.values():
        if source.uri:
            kind = kinds["ingest"]
            config = validate(kind.config, {"uri": source.uri}, field="params").model_dump(mode="json", by_alias=True)
            stages.append(
                GraphStage(
                    name=source.binding.stage,
                    kind=kind.name,
                    service=kind.service,
                    config=config,
                    inputs={},
                    needs=(),
                    outputs={port: value.type for port, value in kind.outputs.items()},
                    implied=True,
                )
            )
    return stages


def _with_second_judgement(stages: list[GraphStage]) -> list[GraphStage]:
    """Where `optimize` follows `evaluate`, judge the chosen variant again, before anything uses its model.

    What ships is what was judged: the added stage has the same gate and compares with the variant's source, and what took
    the optimized model together with a report of the unoptimized one takes the new report instead.
    """
    result = list(stages)
    for optimize in [s for s in stages if s.kind == "optimize"]:
        source = optimize.inputs.get("model")
        judged_again = any(s.kind == "evaluate" and _stage_of(s.inputs.get("model")) == optimize.name for s in stages)
        first = next((s for s in stages if s.kind == "evaluate" and s.inputs.get("model") == source), None)
        if first is None or judged_again or source is None:
            continue
        chosen = Binding(stage=optimize.name, port="model")
        again = first.model_copy(
            update={
                "name": f"{first.name}_{optimize.name}d"
                if optimize.name == "optimize"
                else f"{first.name}_{optimize.name}",
                "inputs": {**first.inputs, "model": chosen, "source": source},
                "needs": tuple(sorted({*first.needs, first.name, optimize.name})),
                "implied": True,
            }
        )
        result = [_use_report(s, optimize.name, first.name, again.name) for s in result]
        result.append(again)
    return result


def _use_report(stage: GraphStage, optimized: str, old: str, new: str) -> GraphStage:
    uses_variant = any(_stage_of(b) == optimized for b in stage.inputs.values())
    if not uses_variant or _stage_of(stage.inputs.get("report")) != old:
        return stage
    inputs = {**stage.inputs, "report": Binding(stage=new, port="report")}
    return stage.model_copy(update={"inputs": inputs, "needs": tuple(sorted({*stage.needs, new}))})


def _stage_of(binding: Binding | tuple[Binding, ...] | None) -> str:
    return binding.stage if isinstance(binding, Binding) else ""


def _with_endpoint(stages: list[GraphStage]) -> list[GraphStage]:
    """Tell each evaluation which endpoint's current release it is compared with: that of the pipeline's one deploy stage."""
    endpoints = {s.endpoint for s in stages if s.effect == "release"}
    if len(endpoints) != 1:
        return stages
    endpoint = next(iter(endpoints))
    return [s.model_copy(update={"endpoint": endpoint}) if s.kind == "evaluate" else s for s in stages]


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
