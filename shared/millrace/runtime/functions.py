"""`@millrace.stage`: a typed function becomes a stage. Its source travels as an artifact and is never pickled.

    @millrace.stage
    def count_words(texts: millrace.Dataset, minimum: int = 1) -> millrace.Report: ...

Parameters annotated `Dataset`, `Model`, `Table` or `Report` are input ports (optional with `| None`, many with
`list[...]`); `Context` gets the attempt's context; every other one is a JSON value under `with`. The parameter `item`
differs from task to task: an item of `foreach`, or of the list that a function registered with `@count_words.plan` answers.
`@count_words.merge` registers a function whose first parameter gets what the tasks returned, in task order.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.commands import FunctionCode
from millrace.contracts.pipelines import FunctionSpec
from millrace.contracts.stages import Port
from millrace.runtime.failures import to_spec_error
from millrace.runtime.source import program_of
from millrace.runtime.stage import Context
from millrace.runtime.values import Dataset, Model, Report, Table

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

ITEM = "item"

JSON_PORT: tuple[str, ArtifactType] = ("result", "any")
"""The port of a result that is no artifact of its own."""

PORT_TYPES: dict[type, ArtifactType] = {Dataset: "dataset", Model: "model", Report: "report", Table: "source"}


class Uploader(Protocol):
    """Stores an artifact (type; path in it -> bytes; meta) and returns its reference."""

    def __call__(self, type: ArtifactType, files: Mapping[str, bytes], meta: Mapping[str, Any], /) -> ArtifactRef: ...


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's parameters by what they are, and the output port that its result fills, if any."""

    inputs: Mapping[str, Port]
    params: Mapping[str, inspect.Parameter]
    adapters: Mapping[str, TypeAdapter[Any]]
    context: str
    output: tuple[str, ArtifactType] | None

    def value(self, name: str, given: Any, *, field: str) -> Any:
        """A parameter's value as its type says. Raises InvalidSpec if it does not fit."""
        try:
            return self.adapters[name].validate_python(given)
        except ValidationError as error:
            raise to_spec_error(error, path=field) from None


class StageFunction(Generic[P, R]):
    """A function that is also a stage. Called, it runs here and now; submitted, it runs in a worker's child."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.planner: Callable[..., Iterable[Any]] | None = None
        self.merger: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def plan(self, planner: F) -> F:
        """Register the function that answers the list of tasks; each reaches the stage as `item`."""
        self.planner = planner
        return planner

    def merge(self, merger: F) -> F:
        """Register the function that makes one result of those of the tasks."""
        self.merger = merger
        return merger

    def spec(self, upload: Uploader) -> FunctionSpec:
        """Upload the module's source; return what a pipeline says of this function.

        Raises:
            InvalidSpec: The function cannot travel (a lambda, a closure, no source file), or a parameter has no type
                that a port or JSON can carry.
        """
        program = program_of(self.function, self._source())
        signatures = self._signatures()
        last = self.result_signature()
        code = upload("code", program.files, {"module": program.module, "name": self.name})
        params = {name: schema for signature in signatures for name, schema in _schemas(signature).items()}
        if self.planner is not None:
            params.pop(ITEM, None)  # the plan gives it
        return FunctionSpec(
            code=FunctionCode(code=code, module=program.module, name=self.name),
            inputs={name: port for signature in signatures for name, port in signature.inputs.items()},
            outputs={last.output[0]: Port(type=last.output[1])} if last.output else {},
            params=params,
            has_plan=self.planner is not None,
            has_merge=self.merger is not None,
        )

    def as_json(self, values: Mapping[str, Any], *, field: str) -> dict[str, Any]:
        """Return values of parameters as JSON, held against their types; `$params.name` stays, not known yet.

        Raises:
            InvalidSpec: With the path of the parameter under `field`.
        """
        written = dict(values)
        for signature in self._signatures():
            for name in signature.adapters.keys() & values.keys():
                value = values[name]
                if not (isinstance(value, str) and value.startswith("$")):
                    fitting = signature.value(name, value, field=f"{field}.{name}")
                    written[name] = signature.adapters[name].dump_python(fitting, mode="json")
        return written

    def result_signature(self) -> Signature:
        """Of the function that makes the stage's result: the merge where there is one."""
        return read_signature(self.function) if self.merger is None else read_signature(self.merger, skip_first=True)

    def _signatures(self) -> list[Signature]:
        planner = [] if self.planner is None else [read_signature(self.planner)]
        return [read_signature(self.function), *([] if self.merger is None else [self.result_signature()]), *planner]

    def _source(self) -> Path:
        name = getattr(self.function, "__qualname__", "")
        if "<" in name or "." in name:
            raise errors.InvalidSpec(
                f"Stage function {name!r} is defined inside another function or a class.",
                remedy="Define it at the top level of a module.",
            )
        path = inspect.getsourcefile(self.function)
        if path is None or not Path(path).is_file():
            raise errors.InvalidSpec(
                f"Stage function {name!r} has no source file, and its source is what travels to the worker.",
                remedy="Put it into a .py file and import it.",
            )
        return Path(path).absolute()


def stage(function: Callable[P, R]) -> StageFunction[P, R]:
    """Make a typed function a stage."""
    return StageFunction(function)


def read_signature(function: Callable[..., Any], *, skip_first: bool = False) -> Signature:
    """Sort a function's parameters into ports, JSON parameters, context and item.

    Raises:
        InvalidSpec: A parameter has no annotation, or one that neither a port nor JSON can carry.
    """
    hints = _hints(function)
    inputs: dict[str, Port] = {}
    params: dict[str, inspect.Parameter] = {}
    context = ""
    for name, parameter in list(inspect.signature(function).parameters.items())[1 if skip_first else 0 :]:
        where = f"{function.__name__}({name})"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise errors.InvalidSpec(f"{where}: a stage takes named parameters only.", remedy="Name each parameter.")
        port = _port(hints.get(name))
        if hints.get(name) is Context:
            context = name
        elif port is not None:
            inputs[name] = port
        elif name not in hints and name != ITEM:
            raise errors.InvalidSpec(f"{where} has no type.", remedy="Annotate it: a millrace type, or a JSON one.")
        else:
            params[name] = parameter
    adapters = {name: _adapter(hints.get(name, Any), f"{function.__name__}({name})") for name in params}
    return Signature(inputs, params, adapters, context, _output(hints))


def load_function(directory: Path, code: FunctionCode) -> StageFunction[..., Any]:
    """Execute a module's source under its own name, so `if __name__ == "__main__"` stays quiet; return its function.

    Raises:
        StageFailed: It imports what is not installed here.
        InvalidSpec: It has no such stage.
    """
    path = directory / f"{code.module.replace('.', '/')}.py"
    package = code.module.rpartition(".")[0]
    module = types.ModuleType(code.module)
    module.__file__, module.__package__ = str(path), package
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))  # the modules that travel with it
    try:
        if package:
            importlib.import_module(package)
        sys.modules[code.module] = module
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except ImportError as error:
        raise errors.StageFailed(
            f"Module {code.module!r} of stage function {code.name!r} could not be loaded: {error}.",
            remedy="Install what it imports where the worker runs; of your own, only modules beside its file travel.",
        ) from error
    function = getattr(module, code.name, None)
    if not isinstance(function, StageFunction):
        raise errors.InvalidSpec(f"Module {code.module!r} has no function {code.name!r} with @millrace.stage.")
    return function


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, AttributeError, TypeError) as error:
        raise errors.InvalidSpec(
            f"The annotations of {function.__name__!r} could not be read: {error}.",
            remedy="Import the types at the top of the module, outside `if TYPE_CHECKING`.",
        ) from error


def _port(hint: Any) -> Port | None:
    """The port that an annotation stands for: T, T | None, list[T], tuple[T, ...], Sequence[T]."""
    if isinstance(hint, type) and hint in PORT_TYPES:
        return Port(type=PORT_TYPES[hint])
    origin, arguments = typing.get_origin(hint), [a for a in typing.get_args(hint) if a not in (type(None), Ellipsis)]
    inner = _port(arguments[0]) if len(arguments) == 1 else None
    if inner is None:
        return None
    if origin in (list, tuple, collections.abc.Sequence):
        return inner.model_copy(update={"many": True})
    if origin in (typing.Union, types.UnionType):
        return inner.model_copy(update={"optional": True})
    return None


def _output(hints: Mapping[str, Any]) -> tuple[str, ArtifactType] | None:
    """The name and type of the port that a result fills; JSON values stand in an artifact of type `any`."""
    hint = hints.get("return", Any)
    if hint is type(None):
        return None
    if isinstance(hint, type) and hint in PORT_TYPES:
        return (hint.__name__.lower(), PORT_TYPES[hint])
    return JSON_PORT


def _adapter(hint: Any, where: str) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
        raise errors.InvalidSpec(
            f"{where} has a type that JSON cannot carry: {hint!r}.",
            remedy="Use numbers, strings, lists, dicts or pydantic models, or a millrace type for an input.",
        ) from error
    return adapter


def _schemas(signature: Signature) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for name, parameter in signature.params.items():
        schema = signature.adapters[name].json_schema()
        if parameter.default is not inspect.Parameter.empty:
            schema["default"] = signature.adapters[name].dump_python(parameter.default, mode="json")
        schemas[name] = schema
    return schemas
