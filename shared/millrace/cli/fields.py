"""The fields of a JSON Schema in words: path, type, default and meaning, with the fields of what is nested among them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_EMPTY: tuple[object, ...] = (None, "", [], {})
_MANY = 8  # of more choices than this the first are shown


@dataclass(frozen=True, slots=True)
class FieldText:
    """One field.

    Attributes:
        path: Names with dots between; NAME stands for any key of a mapping, and [] for each item of a list.
        default: As JSON; None if there is none to tell, because the field has to be given, or is empty.
    """

    path: str
    type: str
    is_required: bool
    default: str | None
    meaning: str


def fields_of(schema: Schema, definitions: Mapping[str, Schema], *, prefix: str = "") -> Iterator[FieldText]:
    """Every field of an object's schema, and after each those of the objects in it."""
    for name, field in schema.get("properties", {}).items():
        if "const" in field:
            continue
        default = field.get("default")
        yield FieldText(
            path=prefix + name,
            type=_type(field, definitions),
            is_required=name in schema.get("required", ()),
            default=None if default in _EMPTY else json.dumps(default, ensure_ascii=False),
            meaning=field.get("description", ""),
        )
        inner, infix = _object_in(field, definitions)
        if inner is not None:
            yield from fields_of(inner, definitions, prefix=f"{prefix}{name}{infix}.")


def _object_in(field: Schema, definitions: Mapping[str, Schema]) -> tuple[Schema | None, str]:
    """The object that a field is, or whose mapping or list it is, and what stands for the key in a path."""
    for part in _parts(field, definitions):
        if "properties" in part:
            return part, ""
        for key, infix in (("additionalProperties", ".NAME"), ("items", "[]")):
            below = part.get(key)
            inner = _resolved(below, definitions) if isinstance(below, Mapping) else {}
            if "properties" in inner:
                return inner, infix
    return None, ""


def _parts(field: Schema, definitions: Mapping[str, Schema]) -> Sequence[Schema]:
    return [_resolved(part, definitions) for part in field.get("anyOf", (field,))]


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref")
    return schema if reference is None else definitions[reference.rpartition("/")[2]]


def _type(field: Schema, definitions: Mapping[str, Schema]) -> str:
    return " or ".join(dict.fromkeys(_words(part, definitions) for part in _parts(field, definitions)))


def _words(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "enum" in schema:
        shown = [json.dumps(value, ensure_ascii=False) if value == "" else str(value) for value in schema["enum"]]
        return " | ".join([*shown[:_MANY], *(["..."] if len(shown) > _MANY else [])])
    kind = schema.get("type", "")
    if kind == "array":
        of = _type(schema.get("items", {}), definitions)
        return f"list of ({of})" if " or " in of else f"list of {of}"
    if kind == "object":
        values = schema.get("additionalProperties")
        keys = schema.get("propertyNames", {}).get("enum")
        of = f" of {_words({'enum': keys}, definitions)}" if keys else ""
        return f"mapping{of} to {_type(values, definitions)}" if isinstance(values, Mapping) else "mapping"
    limits = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema)
    return f"{_WORDS.get(kind, kind)} {limits}".strip()
