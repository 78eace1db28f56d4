"""Parameters of a pipeline: checking what the caller gave, and putting whole values where `$params.name` stands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.faults import short
from millrace.contracts.pipelines import Param, PipelineSpec

PREFIX = "$params."


def is_param_name(text: str) -> bool:
    """Whether `$params.NAME`, conditions and the command line can say it, and an implied stage can be named after it."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,49}", text) is not None


def resolve_params(spec: PipelineSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter's value: as given, else its default; data sets as ArtifactRef or `s3://` text.

    Raises:
        InvalidSpec: An unknown or missing parameter, or a value of another type.
    """
    check_names(spec, given)
    for name in spec.params:
        if not is_param_name(name):
            raise errors.InvalidSpec(
                f"{name!r} cannot be a parameter's name.",
                field=f"params.{name}",
                remedy="Use letters, digits, _ and -, a letter first, at most 50.",
            )
    values = {}
    for name, param in spec.params.items():
        value = given.get(name)
        value = param.default if value is None else value
        if value is None:
            raise errors.InvalidSpec(
                f"Parameter {name!r} has no value and no default.",
                field=f"params.{name}",
                remedy=_how_to_give(name, param),
            )
        values[name] = _checked(name, param, value)
    return values


def check_names(spec: PipelineSpec, given: Mapping[str, Any]) -> None:
    """Raises InvalidSpec where a parameter is given that the pipeline does not have."""
    for name in given:
        if name not in spec.params:
            raise errors.InvalidSpec(
                f"The pipeline has no parameter {name!r}; {errors.nearest(name, spec.params)}", field=f"params.{name}"
            )


def substitute(value: Any, params: Mapping[str, Any], *, field: str) -> Any:
    """Replace each text `$params.name` by the parameter's whole, typed value, at any depth."""
    if isinstance(value, str) and value.startswith("$"):
        name = value.removeprefix(PREFIX)
        if not value.startswith(PREFIX):
            raise errors.InvalidSpec(f"{value!r} is not a reference.", field=field, remedy="Write $params.name.")
        if name not in params:
            raise errors.InvalidSpec(
                f"The pipeline has no parameter {name!r}; {errors.nearest(name, params)}", field=field
            )
        return params[name]
    if isinstance(value, Mapping):
        return {k: substitute(v, params, field=f"{field}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute(v, params, field=f"{field}.{i}") for i, v in enumerate(value)]
    return value


def _checked(name: str, param: Param, value: Any) -> Any:
    field = f"params.{name}"
    if param.type == "dataset":
        return _dataset(field, value)
    if param.type == "json":
        return _json(field, value)
    if param.type == "float" and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    expected = {"string": str, "integer": int, "float": float, "boolean": bool}[param.type]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise errors.InvalidSpec(f"Expected {_article(param.type)}; found {short(value)}.", field=field)
    if isinstance(value, float) and not math.isfinite(value):
        raise errors.InvalidSpec(f"Expected a finite number; found {value!r}.", field=field)
    return value


def _json(field: str, value: Any) -> Any:
    try:
        canonical_json(value)
    except (TypeError, ValueError, RecursionError):
        raise errors.InvalidSpec(
            f"Expected a value that JSON has: a text, a finite number, true, false, a list or a mapping; found {short(value)}.",
            field=field,
        ) from None
    return value


def _dataset(field: str, value: Any) -> ArtifactRef | str:
    if isinstance(value, str) and value.startswith("s3://"):
        return value
    if isinstance(value, ArtifactRef):
        return value
    try:
        return ArtifactRef.model_validate(value)
    except ValidationError:
        raise errors.InvalidSpec(
            f"Expected data: an uploaded artifact or an s3:// URL; found {str(value)[:80]!r}.",
            field=field,
            remedy="Submit local files with the `millrace` command or the SDK, which upload them.",
        ) from None


def _how_to_give(name: str, param: Param) -> str:
    return f"Give it with `--data {name}=PATH`." if param.type == "dataset" else f"Give it with `--param {name}=VALUE`."


def _article(type_: str) -> str:
    return f"an {type_}" if type_[0] in "aeiou" else f"a {type_}"
