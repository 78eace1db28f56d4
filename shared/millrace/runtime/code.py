"""A stage's code as three functions: a kind's module, a `@millrace.stage` function, or either mapped over items."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.artifacts import ArtifactType
from millrace.contracts.base import canonical_json
from millrace.contracts.commands import ExecuteAttempt, Foreach
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import DatasetMeta
from millrace.contracts.stages import FUNCTION_KIND, StageConfig, StageKind, find_kind
from millrace.runtime.failures import to_spec_error
from millrace.runtime.functions import ITEM, JSON_PORT, PORT_TYPES, Signature, load_function, read_signature
from millrace.runtime.phases import OUTPUTS_KEY, StageCode, execute_here, to_row
from millrace.runtime.stage import Artifact, Context, Inputs, NextPlan, Result, Results, Task, outputs
from millrace.runtime.values import (
    Dataset,
    Model,
    Report,
    Table,
    finite_metrics,
    read_report,
    read_table,
    to_plain,
    write_value,
)
from millrace.store.artifacts import write_manifest

VALUES = (Dataset, Model, Report, Table)
RESULT_FILE = "result.json"
"""In the artifact of a result that is plain JSON."""

MAX_LIST = 256
"""Artifacts in one port's list: the list travels in an event, and no message grows with a run."""


def load_code(command: ExecuteAttempt, context: Context) -> StageCode:
    """Import the stage's code and validate its configuration.

    Raises:
        InvalidSpec: The kind is not installed, or its configuration does not fit.
        StageFailed: The module cannot be imported here.
    """
    if command.foreach is not None:
        return MappedStage(command, context, command.foreach)
    return _load(command, context, command.config)


def _load(command: ExecuteAttempt, context: Context, config: Mapping[str, Any]) -> StageCode:
    if command.kind == FUNCTION_KIND:
        return FunctionStage(command, context, config)
    return ModuleStage(command, find_kind(command.kind), config)


class ModuleStage:
    """A stage kind's module with its validated configuration."""

    def __init__(self, command: ExecuteAttempt, kind: StageKind, config: Mapping[str, Any]) -> None:
        self.name = f"stage {command.stage!r}"
        self._config = _validated(kind, config, command.stage)
        self._module = _imported(kind)
        self.can_merge = hasattr(self._module, "merge")

    def plan(self, context: Context, inputs: Inputs) -> Sequence[Task]:
        if not hasattr(self._module, "plan"):
            return [{}]
        return list(self._module.plan(context, self._config, inputs))

    def work(self, context: Context, inputs: Inputs, task: Task) -> Result | StageOutputs:
        worked: Result | StageOutputs = self._module.work(context, self._config, inputs, task)
        return worked

    def merge(self, context: Context, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
        merged: StageOutputs | NextPlan = self._module.merge(context, self._config, inputs, results)
        return merged


class FunctionStage:
    """A `@millrace.stage` function, loaded from its code artifact."""

    def __init__(self, command: ExecuteAttempt, context: Context, config: Mapping[str, Any]) -> None:
        if command.function is None:
            raise errors.InvalidSpec("The command names no function.", field=f"stages.{command.stage}.function")
        self.name = f"stage function {command.function.name!r}"
        code = context.open_artifact(command.function.code)
        self._function = load_function(code.directory(), command.function)
        self._stage, self._config = command.stage, config
        self.can_merge = self._function.merger is not None

    def plan(self, context: Context, inputs: Inputs) -> Sequence[Task]:
        if self._function.planner is None:
            return [{}]
        items = self._call(self._function.planner, context, inputs)
        if not isinstance(items, Iterable):
            raise errors.StageFailed(f"The plan of {self.name} must answer a list of items.")
        return [{ITEM: item} for item in items]

    def work(self, context: Context, inputs: Inputs, task: Task) -> Result | StageOutputs:
        result = self._call(self._function.function, context, inputs, given=task)
        if not self.can_merge:
            return self._to_outputs(context, result, self._function.result_signature().output)
        if isinstance(result, VALUES):
            return to_row(self._to_outputs(context, result, JSON_PORT))
        return {"value": self._as_json(result)}

    def merge(self, context: Context, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
        merger = self._function.merger
        assert merger is not None, "phases asks can_merge first"
        merged = self._call(merger, context, inputs, results=(_to_value(context, row) for row in results))
        return self._to_outputs(context, merged, self._function.result_signature().output)

    def _call(
        self, function: Callable[..., Any], context: Context, inputs: Inputs, *, given: Mapping[str, Any] = MappingProxyType({}),
        results: Iterator[Any] | None = None,
    ) -> Any:  # fmt: skip
        signature = read_signature(function, skip_first=results is not None)
        arguments = _arguments(signature, inputs, {**self._config, **given}, self._stage)
        if signature.context:
            arguments[signature.context] = context
        return function(*(() if results is None else (results,)), **arguments)

    def _to_outputs(self, context: Context, result: Any, promised: tuple[str, ArtifactType] | None) -> StageOutputs:
        """What a function returned, at the port that its annotation promised."""
        found = PORT_TYPES.get(type(result), "any")
        if promised is None and result is None:
            return outputs({})
        if promised is None or promised[1] not in ("any", found):
            expected = "None" if promised is None else f"a {promised[0].capitalize()}"
            raise errors.StageFailed(
                f"S{self.name[1:]} is annotated to return {expected}, and returned a {type(result).__name__}.",
                remedy="Make the annotation say what it returns.",
            )
        if isinstance(result, VALUES):
            metrics = finite_metrics(result) if isinstance(result, Report) else {}
            summary = {"metrics": metrics} if metrics else {}
            return outputs({promised[0]: write_value(context, result)}, metrics=metrics, summary=summary)
        value = self._as_json(result)
        ref = context.write_artifact("any", {RESULT_FILE: canonical_json(value).encode()})
        return outputs({promised[0]: ref}, summary={"result": value})

    def _as_json(self, result: Any) -> Any:
        return to_plain(result, f"{type(result).__name__} that {self.name} returned")


class MappedStage:
    """A stage mapped over items or shards (`foreach`): each task is the whole stage on one of them.

    Of a function, `item` is the item; of a kind, the item is an object that overrides fields of its configuration.
    """

    def __init__(self, command: ExecuteAttempt, context: Context, foreach: Foreach) -> None:
        self.name = f"stage {command.stage!r}"
        self._command, self._foreach = command, foreach
        self._whole = _load(command, context, command.config) if command.kind == FUNCTION_KIND else None
        self.can_merge = True

    def plan(self, context: Context, inputs: Inputs) -> Sequence[Task]:  # noqa: ARG002 - as every stage's plan
        if not self._foreach.shards_of:
            return [{ITEM: item} for item in self._foreach.items]
        shards = DatasetMeta.model_validate(self._dataset(inputs).meta).shards
        return [{"shard": index} for index in range(len(shards))]

    def work(self, context: Context, inputs: Inputs, task: Task) -> Result | StageOutputs:
        command, config = self._command, dict(self._command.config)
        if "shard" in task:
            inputs = {**inputs, self._foreach.shards_of: one_shard(context, self._dataset(inputs), task["shard"])}
        else:
            config |= task if command.kind == FUNCTION_KIND else _overrides(task[ITEM], command.stage)
        code = _load(command, context, config)
        if self._merges_values:
            return code.work(context, inputs, {})
        return to_row(execute_here(command, code, context, inputs))

    def merge(self, context: Context, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
        if self._whole is not None and self._merges_values:
            return self._whole.merge(context, inputs, results)
        return _collected((StageOutputs.received(row[OUTPUTS_KEY]) for row in results), self.name)

    @property
    def _merges_values(self) -> bool:
        """Whether a function's own merge makes one result of those of the items."""
        return self._whole is not None and self._whole.can_merge

    def _dataset(self, inputs: Inputs) -> Artifact:
        port = self._foreach.shards_of
        if not isinstance(inputs.get(port), Artifact):
            raise errors.InvalidSpec(
                f"There is no data set at input {port!r}.", field=f"stages.{self._command.stage}.foreach"
            )
        found: Artifact = inputs[port]
        return found


def one_shard(context: Context, dataset: Artifact, index: int) -> Artifact:
    """The data set with one of its shards alone, by reference: no row is copied."""
    meta = DatasetMeta.model_validate(dataset.meta)
    shard = meta.shards[index]
    kept = {entry.path: entry for entry in dataset.manifest.files if entry.path in ("schema.json", shard.path)}
    small = DatasetMeta(schema_=meta.schema_, shards=(shard,), num_rows={shard.split: shard.num_rows})
    ref = write_manifest(context.store, "dataset", kept, meta=small.model_dump(mode="json", by_alias=True))
    return context.open_artifact(ref)


def _validated(kind: StageKind, config: Mapping[str, Any], stage: str) -> StageConfig:
    try:
        return kind.config.model_validate(dict(config))
    except ValidationError as error:
        raise to_spec_error(error, path=f"stages.{stage}.with") from None


def _imported(kind: StageKind) -> ModuleType:
    try:
        return importlib.import_module(kind.module)
    except ImportError as error:
        raise errors.StageFailed(
            f"The code of stage kind {kind.name!r} could not be imported here: {error}.",
            remedy=f"Install the extra of its service: pip install 'millrace[{kind.service}]'.",
        ) from error


def _arguments(signature: Signature, inputs: Inputs, config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, port in signature.inputs.items():
        if name in inputs:
            found = inputs[name]
            several = found if isinstance(found, tuple) else (found,)
            values = [_open(artifact, port.type) for artifact in several]
            arguments[name] = values if port.many else values[0]
        elif not port.optional:
            raise errors.InvalidSpec(f"Input {name!r} is not bound.", field=f"stages.{stage}.inputs.{name}")
        else:
            arguments[name] = None
    for name in signature.adapters:
        if name in config:
            arguments[name] = signature.value(name, config[name], field=f"stages.{stage}.with.{name}")
        elif signature.params[name].default is signature.params[name].empty:
            raise errors.InvalidSpec("A value is required.", field=f"stages.{stage}.with.{name}")
    return arguments


def _open(artifact: Artifact, type: ArtifactType) -> Dataset | Model | Report | Table:
    """An input as the value that its port's type stands for."""
    match type:
        case "model":
            return Model(artifact)
        case "report":
            return read_report(artifact)
        case "source":
            return read_table(artifact)
        case _:
            return Dataset(artifact)


def _to_value(context: Context, row: Result) -> Any:
    """A task's result as its function returned it."""
    if OUTPUTS_KEY not in row:
        return row["value"]
    (ref,) = StageOutputs.received(row[OUTPUTS_KEY]).artifacts.values()
    return _open(context.open_artifact(ref), ref.type)


def _collected(ended: Iterable[StageOutputs], name: str) -> StageOutputs:
    """Outputs of all items: a list of artifacts per port, in the items' order."""
    each = list(ended)
    if len(each) > MAX_LIST:
        raise errors.StageFailed(
            f"{name} made {len(each)} outputs; at most {MAX_LIST} stand in a list.",
            remedy="Give the function a merge, which makes one artifact of them.",
        )
    ports = {port: tuple(o.artifacts[port] for o in each) for port in (each[0].artifacts if each else ())}
    return StageOutputs(lists=ports, summary={"items": len(each)})


def _overrides(item: Any, stage: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise errors.InvalidSpec(
            f"An item must be an object that overrides fields of `with`; found {item!r}.",
            field=f"stages.{stage}.foreach",
            remedy="Write each item as {field: value}.",
        )
    return item
