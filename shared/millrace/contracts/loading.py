"""Reading a pipeline file: YAML 1.2 or JSON in, a validated PipelineSpec out, every error with the field's path."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from millrace import errors
from millrace.contracts.faults import path_of, said
from millrace.contracts.pipelines import PipelineSpec

MAX_SPEC_BYTES = 2**18
"""Far more than anyone writes by hand. The parser of YAML 1.2 is pure Python: the densest such file takes seconds."""

MAX_VALUES = 100_000
"""Of one file, counting what aliases repeat each time: a thousand bytes of them can stand for gigabytes."""

MAX_DEPTH = 64


def load_spec_file(path: Path) -> PipelineSpec:
    """Read a pipeline file.

    Raises:
        NotFound: There is no such file.
        InvalidSpec: It is not YAML or JSON, or not a pipeline.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise errors.NotFound(
            f"There is no pipeline file {str(path)!r}.", remedy="Write one with `millrace init DATA`."
        ) from error
    except OSError as error:
        raise errors.InvalidSpec(
            f"Cannot read {str(path)!r}: {error.strerror}.", remedy="Give a readable file."
        ) from error
    if len(data) > MAX_SPEC_BYTES:
        raise errors.InvalidSpec(f"{path} has {len(data)} bytes; at most {MAX_SPEC_BYTES} are allowed.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.InvalidSpec(
            f"{path} is not UTF-8 text (byte {error.start}).", remedy="Save it as UTF-8."
        ) from error
    return load_spec(text, source=str(path))


def load_spec(document: str | Mapping[str, Any], *, source: str = "") -> PipelineSpec:
    """Turn YAML or JSON text, or the mapping it stands for, into a PipelineSpec.

    Args:
        document: The text or the mapping.
        source: Where it came from, for messages.

    Raises:
        InvalidSpec: With the path of the field, what was expected, and the nearest valid name.
    """
    tree = parse_yaml(document, source=source) if isinstance(document, str) else document
    if not isinstance(tree, Mapping):
        raise errors.InvalidSpec(
            f"{source or 'The pipeline'} holds {_kind(tree)}, not a mapping.",
            remedy="Start with `api: millrace/v1` and `name:`.",
        )
    return validate(PipelineSpec, tree)


def parse_yaml(text: str, *, source: str = "") -> Any:
    """Parse YAML 1.2 (JSON is a subset) into plain values. Duplicate keys, tags and anchors of code are refused."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = False
    where = source or "The pipeline"
    try:
        tree = reader.load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise errors.InvalidSpec(
            f"{where}, line {line}: the same key stands twice.", remedy="Keep one of them."
        ) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise errors.InvalidSpec(
            f"{where}, line {line}: not valid YAML ({error.problem}).",
            remedy="Check indentation, quotes and colons there.",
        ) from None
    except (YAMLError, ValueError) as error:
        if "integer string conversion" in str(error):
            raise errors.InvalidSpec(f"{where} holds a number of thousands of digits.") from None
        raise errors.InvalidSpec(f"{where}: not valid YAML ({str(error).splitlines()[0]}).") from None
    except RecursionError:
        raise _too_deep(where) from None
    _check_size(tree, where)
    return tree


def _check_size(tree: Any, where: str) -> None:
    """Refuse a tree that is too large or too deep once its aliases are written out, without writing them out."""
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        if depth > MAX_DEPTH:  # also what contains itself
            raise _too_deep(where)
        if id(value) not in sizes:
            inner = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(v, depth + 1) for v in inner)
        return sizes[id(value)]

    found = size(tree, 1)
    if found > MAX_VALUES:
        raise errors.InvalidSpec(
            f"{where} stands for {found} values, aliases written out; at most {MAX_VALUES} are allowed.",
            remedy="Keep data in a data file, and name it in the pipeline.",
        )


def _too_deep(where: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"{where} is nested more than {MAX_DEPTH} levels deep.",
        remedy="Close its brackets; remove what contains itself.",
    )


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], value: Any, *, field: str = "") -> M:
    """Validate a value from outside against a model, and say the first fault in terms of the field's path.

    Raises:
        InvalidSpec: The value does not fit.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise spec_error(model, error, field=field) from None


def spec_error(model: type[BaseModel], error: ValidationError, *, field: str = "") -> errors.InvalidSpec:
    """Translate pydantic's first complaint: path, what was expected, what was found, the nearest valid name."""
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    loc = path_of(fault)
    path = ".".join([*([field] if field else []), *(str(part) for part in loc)])
    others = f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        names = _field_names(model, loc[:-1])
        return errors.InvalidSpec(
            f"Unknown field {str(loc[-1])!r}; {errors.nearest(str(loc[-1]), names)}{others}", field=path
        )
    remedy = "Add it." if fault["type"] == "missing" else ""
    return errors.InvalidSpec(f"{said(fault)}{others}", field=path, remedy=remedy)


def _field_names(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model that stands at a path; keys of a mapping and positions of a list are passed over."""
    current = model
    for part in loc:
        info = next((f for name, f in current.model_fields.items() if part in (name, f.alias)), None)
        inner = _model_in(info.annotation) if info else None
        current = inner or current
    return [f.alias or name for name, f in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `dict[str, StageSpec]` or `X | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _kind(value: Any) -> str:
    names = {
        type(None): "nothing",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)
