"""Whether answers of a stage may be kept at all, and how two cache keys differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from millrace.contracts.events import CacheUse
from millrace.contracts.pipelines import GraphStage
from millrace.contracts.stages import FUNCTION_KIND, StageKind


def why_never(mode: CacheUse, stage: GraphStage, kind: StageKind | None) -> str:
    """Why no answer of a stage is kept or taken, in words; empty if answers are.

    Args:
        mode: Of the run.
        stage: As executed.
        kind: Its kind, if it is installed here.
    """
    if mode == "off":
        return "the run was submitted without the cache"
    if not stage.cache:
        return "the stage says `cache: false`"
    if stage.effect != "none":
        return "the stage has an effect outside of the run"
    if stage.kind == FUNCTION_KIND:
        return "" if stage.function is not None else "the stage names no function"
    if kind is None:
        return f"kind {stage.kind!r} is not installed where the conductor runs"
    return "" if kind.cacheable else f"stages of kind {stage.kind!r} are never cached"


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(field, its value before, its value now) of what differs; empty where there was no such field.

    An empty object that got fields, or lost its last, is told by those fields.
    """
    for field in sorted(before.keys() | now.keys()):
        if before.get(field) == now.get(field):
            continue
        if any(one.get(field) == "{}" and _has_below(field, other) for one, other in ((before, now), (now, before))):
            continue
        yield field, before.get(field, ""), now.get(field, "")


def _has_below(field: str, fields: Mapping[str, str]) -> bool:
    return any(name.startswith(f"{field}.") for name in fields)
