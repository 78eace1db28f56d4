"""How sure an inferred type is: by the share of values that are of it, beside the type that comes next."""

from __future__ import annotations

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.schema import ColumnType
from millrace_cleaning.scan import ColumnScan

MIN_CONFIDENCE = 0.9
"""Below it a warning asks the owner to say the type."""

_FEW = 20  # distinct values: as many as a column of codes has

_AGREEING: dict[ColumnType, tuple[str, ...]] = {
    "integer": ("integer",), "number": ("integer", "number"), "boolean": ("boolean",), "timestamp": ("timestamp",),
    "image": ("bytes",), "audio": ("audio",), "vector": ("list",), "tokens": ("list",), "json": ("json", "list"),
    "category": ("string",), "text": ("string",),
}  # fmt: skip
_NEXT: dict[str, ColumnType] = {
    "integer": "integer", "number": "number", "boolean": "boolean", "timestamp": "timestamp", "bytes": "image", "audio": "audio",
    "list": "json", "json": "json", "string": "text",
}  # fmt: skip


class Inference(Contract):
    """What an inferred type is based on."""

    confidence: float = Field(
        description="Share of the values that are of the type; of a category with many labels, less their share of the values."
    )
    runner_up: ColumnType | None = Field(default=None, description="What it would be if those values are not dirt.")
    kinds: dict[str, int] = Field(description="Values by what each alone looks like; nulls are left out.")
    distinct: int | None = Field(default=None, description="Distinct values; null if more than are counted.")


def weigh(type_: ColumnType, scan: ColumnScan) -> Inference | None:
    """Return what speaks for a type that was inferred from the scan; None where there is no value."""
    num = sum(scan.kinds.values())
    if not num:
        return None
    agreeing = _AGREEING[type_]
    share = sum(scan.kinds.get(kind, 0) for kind in agreeing) / num
    distinct = None if scan.has_more or not scan.values else len(scan.values)
    if type_ == "category" and distinct is not None and distinct > _FEW:
        share *= 1 - distinct / num
    others = {kind: count for kind, count in scan.kinds.items() if kind not in agreeing}
    return Inference(
        confidence=round(share, 4),
        runner_up=_NEXT[max(sorted(others), key=lambda kind: others[kind])] if others else _close(type_, distinct),
        kinds=dict(sorted(scan.kinds.items())),
        distinct=distinct,
    )


def warning_of(name: str, type_: ColumnType, inferred: Inference) -> str:
    """Return what to tell the owner of a column whose type is in doubt; empty if it is not."""
    if inferred.confidence >= MIN_CONFIDENCE:
        return ""
    found = ", ".join(f"{count:,} {kind}" for kind, count in inferred.kinds.items())
    many = f", {inferred.distinct:,} distinct" if inferred.distinct is not None else ""
    other = f"; {inferred.runner_up} comes next" if inferred.runner_up else ""
    return (
        f"Column {name!r} is read as {type_} with confidence {inferred.confidence:.2f} (values: {found}{many}){other}. "
        f"Say `columns: {{{name}: {{type: {type_}}}}}` if it is."
    )


def _close(type_: ColumnType, distinct: int | None) -> ColumnType | None:
    """The type that equal values could also be."""
    if type_ == "integer" and distinct is not None and distinct <= _FEW:
        return "category"
    if type_ == "category":
        return "text"
    return "category" if type_ == "text" and distinct is not None else None
