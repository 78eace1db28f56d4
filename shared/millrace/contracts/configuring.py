"""The configuration of a stage and the items it is mapped over: parameters put in, validated, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace import errors
from millrace.contracts.commands import Foreach
from millrace.contracts.loading import validate
from millrace.contracts.params import substitute
from millrace.contracts.pipelines import Binding, StageSpec
from millrace.contracts.stages import StageKind

Bound = Mapping[str, Binding | tuple[Binding, ...]]


def configure(
    stage: StageSpec, kind: StageKind, bound: Bound, values: Mapping[str, Any], *, field: str
) -> tuple[dict[str, Any], Foreach | None]:
    """Return a stage's whole configuration, and what it is mapped over.

    An item of a kind's `foreach` overrides fields of `with`, and may give what `with` leaves out: each comes back whole.

    Args:
        stage: As written.
        kind: Its kind; of a function, one with the function's ports.
        bound: Its inputs.
        values: The parameters'.
        field: Path of the stage, such as `stages.train`.

    Raises:
        InvalidSpec: A field that is unknown, missing or of a wrong type, in `with` or in an item.
    """
    config = substitute(stage.with_, values, field=f"{field}.with")
    foreach = _foreach(stage, bound, values, field=f"{field}.foreach")
    if stage.function is not None:
        return _function_config(stage, config, field=f"{field}.with"), foreach
    if foreach is None or foreach.shards_of:
        return _whole(kind, config, field=f"{field}.with"), foreach
    items = tuple(_whole_item(kind, config, item, field=f"{field}.foreach.{i}") for i, item in enumerate(foreach.items))
    return items[0], Foreach(items=items)


def _whole(kind: StageKind, config: Mapping[str, Any], *, field: str) -> dict[str, Any]:
    return validate(kind.config, config, field=field).model_dump(mode="json", by_alias=True)


def _whole_item(kind: StageKind, config: Mapping[str, Any], item: Any, *, field: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise errors.InvalidSpec(
            f"Expected a mapping that overrides fields of `with`; found {item!r}.",
            field=field,
            remedy="Write each item as {field: value}.",
        )
    return _whole(kind, {**config, **item}, field=field)


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
