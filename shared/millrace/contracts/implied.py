"""What expansion adds: an `ingest` for outside data, a second judgement of what was optimized, what is compared with."""

from __future__ import annotations

from collections.abc import Mapping

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.bindings import Source
from millrace.contracts.loading import validate
from millrace.contracts.pipelines import Binding, GraphStage
from millrace.contracts.stages import StageKind


def source(param: str, value: ArtifactRef | str) -> Source:
    """A data set parameter: an artifact, or an outside location that an implied `ingest` stage copies first."""
    if isinstance(value, str):
        return Source(type="source", binding=Binding(stage=f"ingest_{param.lower()}", port="source"), uri=value)
    return Source(type=value.type, binding=Binding(artifact=value), uri="")


def ingests(sources: Mapping[str, Source], kinds: Mapping[str, StageKind]) -> list[GraphStage]:
    """The stages that copy outside data before anything reads it, one for each parameter that names some."""
    stages = []
    for outside in sources.values():
        if outside.uri:
            kind = kinds["ingest"]
            config = validate(kind.config, {"uri": outside.uri}, field="params").model_dump(mode="json", by_alias=True)
            stages.append(
                GraphStage(
                    name=outside.binding.stage,
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


def with_second_judgement(stages: list[GraphStage]) -> list[GraphStage]:
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


def with_endpoint(stages: list[GraphStage]) -> list[GraphStage]:
    """Tell each evaluation which endpoint's current release it is compared with: that of the pipeline's one deploy stage."""
    releasing: dict[str, str] = {}
    for stage in stages:
        if stage.effect == "release" and releasing.setdefault(stage.endpoint, stage.name) != stage.name:
            raise errors.InvalidSpec(
                f"Stage {releasing[stage.endpoint]!r} already releases to endpoint {stage.endpoint!r}.",
                field=f"stages.{stage.name}.with.endpoint",
                remedy="Give each its own endpoint.",
            )
    if len(releasing) != 1:
        return stages
    endpoint = next(iter(releasing))
    return [s.model_copy(update={"endpoint": endpoint}) if s.kind == "evaluate" else s for s in stages]
