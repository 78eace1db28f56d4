"""Binding a stage's inputs: what was written, else the nearest earlier port of the type; ambiguity is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace import errors
from millrace.contracts.params import PREFIX
from millrace.contracts.pipelines import Binding, StageSpec
from millrace.contracts.stages import Port


@dataclass(frozen=True, slots=True)
class Source:
    """A data set parameter that inputs may bind to.

    Attributes:
        type: Type of the artifact, `source` for what is yet to be ingested.
        binding: Where it comes from.
        uri: The outside location, if an `ingest` stage copies it first.
    """

    type: str
    binding: Binding
    uri: str


def bind_inputs(
    name: str,
    stage: StageSpec,
    inputs: Mapping[str, Port],
    *,
    sources: Mapping[str, Source],
    params: Mapping[str, Any],
    ports: Mapping[str, Mapping[str, Port]],
    earlier: Sequence[str],
) -> dict[str, Binding | tuple[Binding, ...]]:
    """Return a binding for every input port of a stage.

    Args:
        name: The stage's name.
        stage: The stage as written.
        inputs: Its kind's input ports.
        sources: Data set parameters by name.
        params: All parameters' values.
        ports: Output ports of every stage.
        earlier: Names of the stages written before this one.

    Raises:
        InvalidSpec: An unknown port or stage, a type that does not fit, an input that is missing or ambiguous.
    """
    field = f"stages.{name}.inputs"
    for port in stage.inputs:
        if port not in inputs:
            raise errors.InvalidSpec(
                f"The stage has no input {port!r}; {errors.nearest(port, inputs)}", field=f"{field}.{port}"
            )
    bound: dict[str, Binding | tuple[Binding, ...]] = {}
    for port, wanted in inputs.items():
        where = f"{field}.{port}"
        if port in stage.inputs:
            bound[port] = _written(stage.inputs[port], wanted, sources=sources, params=params, ports=ports, field=where)
        elif wanted.auto and not wanted.optional:
            found = _nearest(wanted, sources=sources, ports=ports, earlier=earlier, field=where)
            bound[port] = (found,) if wanted.many else found
    return bound


def _written(
    value: Any, wanted: Port, *, sources: Mapping[str, Source], params: Mapping[str, Any],
    ports: Mapping[str, Mapping[str, Port]], field: str,
) -> Binding | tuple[Binding, ...]:  # fmt: skip
    if isinstance(value, (list, tuple)):
        if not wanted.many:
            raise errors.InvalidSpec("This input takes one artifact, not a list.", field=field)
        return tuple(
            _reference(v, wanted, sources=sources, params=params, ports=ports, field=f"{field}.{i}")
            for i, v in enumerate(value)
        )
    one = _reference(value, wanted, sources=sources, params=params, ports=ports, field=field)
    return (one,) if wanted.many else one


def _reference(
    value: Any, wanted: Port, *, sources: Mapping[str, Source], params: Mapping[str, Any],
    ports: Mapping[str, Mapping[str, Port]], field: str,
) -> Binding:  # fmt: skip
    if not isinstance(value, str):
        raise errors.InvalidSpec(f"Expected `stage.port` or `$params.name`; found {value!r}.", field=field)
    if value.startswith("$"):
        name = value.removeprefix(PREFIX)
        if not value.startswith(PREFIX) or name not in params:
            raise errors.InvalidSpec(f"There is no parameter {name!r}; {errors.nearest(name, params)}", field=field)
        if name not in sources:
            raise errors.InvalidSpec(
                f"Parameter {name!r} is not a data set.", field=field, remedy="Declare it with `type: dataset`."
            )
        _check_type(sources[name].type, wanted, what=value, field=field)
        return sources[name].binding
    stage, _, port = value.partition(".")
    if stage not in ports:
        raise errors.InvalidSpec(f"There is no stage {stage!r}; {errors.nearest(stage, ports)}", field=field)
    port = port or next(iter(ports[stage]))
    if port not in ports[stage]:
        raise errors.InvalidSpec(
            f"Stage {stage!r} has no output {port!r}; {errors.nearest(port, ports[stage])}", field=field
        )
    _check_type(ports[stage][port].type, wanted, what=value, field=field)
    if ports[stage][port].many and not wanted.many:
        raise errors.InvalidSpec(
            f"This input takes one {wanted.type}, but {value} is a list: stage {stage!r} is mapped with `foreach`.",
            field=field, remedy="Give the function a `merge`, or take a list.",
        )  # fmt: skip
    return Binding(stage=stage, port=port)


def _check_type(found: str, wanted: Port, *, what: str, field: str) -> None:
    if "any" not in (found, wanted.type) and found != wanted.type:
        remedy = "Add a `clean` stage before it." if (wanted.type, found) == ("dataset", "source") else ""
        raise errors.InvalidSpec(f"Expected a {wanted.type}, but {what} is a {found}.", field=field, remedy=remedy)


def _nearest(
    wanted: Port,
    *,
    sources: Mapping[str, Source],
    ports: Mapping[str, Mapping[str, Port]],
    earlier: Sequence[str],
    field: str,
) -> Binding:
    for stage in reversed(earlier):
        fitting = [
            p for p, made in ports[stage].items() if made.type == wanted.type and made.auto and made.many <= wanted.many
        ]
        if len(fitting) > 1:
            raise errors.InvalidSpec(
                f"Stage {stage!r} has several outputs of type {wanted.type}: {', '.join(fitting)}.",
                field=field, remedy=f"Write `{stage}.{fitting[0]}` or another of them.",
            )  # fmt: skip
        if fitting:
            return Binding(stage=stage, port=fitting[0])
    fitting = [name for name, s in sources.items() if wanted.type in (s.type, "any")]
    if len(fitting) == 1:
        return sources[fitting[0]].binding
    if fitting:
        raise errors.InvalidSpec(
            f"Several parameters would fit: {', '.join(fitting)}.",
            field=field,
            remedy=f"Write `$params.{fitting[0]}` or another of them.",
        )
    makers = {
        "report": "an `evaluate` stage",
        "model": "a `train` stage",
        "dataset": "a `clean` stage",
        "source": "a parameter of type dataset",
    }
    raise errors.InvalidSpec(
        f"Nothing before this stage makes a {wanted.type}.",
        field=field,
        remedy=f"Add {makers.get(wanted.type, 'a stage that does')} before it.",
    )
