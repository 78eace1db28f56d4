"""What a stage kind declares: ports, configuration, service, and where its code is. Found by entry points."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Literal

from pydantic import ConfigDict, Field

from millrace import errors
from millrace.contracts.artifacts import ArtifactType
from millrace.contracts.base import Contract

Effect = Literal["none", "release"]


class Port(Contract):
    """A typed input or output of a stage."""

    type: ArtifactType
    optional: bool = Field(default=False, description="An optional input may stay unbound.")
    many: bool = Field(default=False, description="The port takes a list of artifacts (the output of a `foreach`).")
    auto: bool = Field(
        default=True, description="Whether an omitted input binds to the nearest earlier port of its type."
    )


class StageConfig(Contract):
    """Base of every kind's configuration: what stands under `with`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")


@dataclass(frozen=True, slots=True)
class StageKind:
    """A kind of stage. Importing its declaration imports no framework; `module` is imported in the child alone.

    Attributes:
        name: What `kind:` says, such as `clean`.
        caption: One sentence for `--help` and the published schema.
        service: Which worker executes it; with the resource class it names the command queue.
        module: Import path of the module with `plan`, `work` and `merge` (see `millrace.runtime.stage`).
        config: The model of `with`.
        inputs, outputs: Ports by name. The first output is the main one.
        bytes: `deterministic` if equal inputs give equal bytes on equal CPUs, `measured` if timings are in the result.
        effect: `release` if accepting its success advances an endpoint.
        cacheable: Whether equal code, config and inputs mean an equal result: not where it looks at the world outside.
        device_independent: Whether what was computed on one class of device may be taken for what another would compute.
        preload: Modules that the warm zygote imports before it forks children.
    """

    name: str
    caption: str
    service: str
    module: str
    config: type[StageConfig]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    bytes: Literal["deterministic", "measured"] = "deterministic"
    effect: Effect = "none"
    cacheable: bool = True
    device_independent: bool = False
    preload: tuple[str, ...] = ()
    required_fields: tuple[str, ...] = field(default=())


FUNCTION_KIND = "function"
"""The kind of a `@millrace.stage` function: its ports and code travel in the spec."""


@cache
def installed_kinds() -> Mapping[str, StageKind]:
    """All stage kinds of installed packages, by name (entry point group `millrace.stages`)."""
    kinds: dict[str, StageKind] = {}
    for point in sorted(entry_points(group="millrace.stages"), key=lambda p: p.name):
        kind = load_kind(point.value)
        kinds[kind.name] = kind
    return kinds


def load_kind(path: str) -> StageKind:
    """Import `package.module:NAME` and return the StageKind there."""
    module, _, attribute = path.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    if not isinstance(kind, StageKind):
        raise errors.InvalidSpec(f"{path} is not a StageKind.", remedy="Point the entry point at a StageKind value.")
    return kind


def find_kind(name: str, *, field: str = "kind") -> StageKind:
    kinds = installed_kinds()
    if name not in kinds:
        raise errors.InvalidSpec(f"No stage kind {name!r} is installed; {errors.nearest(name, kinds)}", field=field)
    return kinds[name]
