"""JSON Schema of a pipeline file, for editors: the spec's shape, with each installed kind's own configuration in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from millrace.contracts.ids import NAME_PATTERN
from millrace.contracts.pipelines import ParamType, PipelineSpec
from millrace.contracts.stages import StageKind

REFERENCE = {"type": "string", "pattern": r"^\$params\.", "description": "The whole value of a parameter."}
SECRET = {
    "type": "object",
    "properties": {"secret": {"type": "string"}},
    "required": ["secret"],
    "additionalProperties": False,
}


def pipeline_schema(kinds: Mapping[str, StageKind]) -> dict[str, Any]:
    """Return a draft 2020-12 schema that accepts what `load_spec` and `expand` accept, as far as a schema can say.

    A stage is of the kind that its `kind` names, or else its own name; under `with` any value may be a `$params.name`.
    """
    schema = PipelineSpec.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for name, kind in sorted(kinds.items()):
        config = _referable(kind.config.model_json_schema(by_alias=True, ref_template=f"#/$defs/{name}.{{model}}"))
        for inner, definition in config.pop("$defs", {}).items():
            definitions[f"{name}.{inner}"] = definition
        definitions[f"with.{name}"] = config | {"description": kind.caption}
    properties = schema["properties"]
    properties["params"]["additionalProperties"] = {
        "anyOf": [{"enum": list(get_args(ParamType))}, {"$ref": "#/$defs/Param"}]
    }
    properties["stages"] |= {
        "propertyNames": {"pattern": NAME_PATTERN},
        "properties": {name: _stage_of_own_kind(name) for name in sorted(kinds)},
        "additionalProperties": {"$ref": "#/$defs/StageSpec"},
    }
    definitions["StageSpec"]["allOf"] = [_if_kind(name) for name in sorted(kinds)]
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Millrace pipeline"}
    return schema | title


def _stage_of_own_kind(name: str) -> dict[str, Any]:
    """A stage called as a kind is of that kind unless it says otherwise."""
    return {
        "$ref": "#/$defs/StageSpec",
        "if": {"not": {"required": ["kind"]}},
        "then": {"properties": {"with": {"$ref": f"#/$defs/with.{name}"}}},
    }


def _if_kind(name: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
        "then": {"properties": {"with": {"$ref": f"#/$defs/with.{name}"}}},
    }


def _referable(schema: Any) -> Any:
    """Allow a parameter reference or a secret in the place of every property's value, at any depth."""
    if isinstance(schema, list):
        return [_referable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _referable(value) for key, value in schema.items() if key not in ("properties", "default", "enum")}
    for key in ("default", "enum"):
        if key in schema:
            result[key] = schema[key]
    if "properties" in schema:
        result["properties"] = {name: _or_reference(value) for name, value in schema["properties"].items()}
    return result


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return about | {"anyOf": [_referable(schema), REFERENCE, SECRET]}
