"""Pipelines as a user holds them: loaded from a file, a mapping, or put together in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.client.stages import Function, FunctionLike, Input, Stage, Uploader
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.loading import load_spec, load_spec_file, spec_error, validate
from millrace.contracts.pipelines import PipelineSpec, StageSpec

DATA = "data"
"""The parameter that `data=` fills, and that a pipeline in Python gets where its first `clean` names no input."""

REMOTE_SCHEMES = ("s3://",)


class Pipeline:
    """A named graph of stages.

        Pipeline.load("pipeline.yaml")
        Pipeline("reviews", stages=[stages.Clean(target="label"), stages.Train(task="text_classification")])

    Attributes:
        name: Of the pipeline.
        base: Where relative paths of its parameters' defaults start; the pipeline file's directory.
    """

    def __init__(
        self,
        name: str,
        *,
        stages: Sequence[Stage | FunctionLike],
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> None:
        """Put stages together, in order.

        Args:
            name: Lower-case letters, digits, `_` and `-`.
            stages: In the order that linear wiring follows.
            params: Parameters by name: a type (`"dataset"`, `"float"`, ...) or `{"type":, "default":}`.
            description: One sentence for people.

        Raises:
            InvalidSpec: No stage is given, or two have one name.
        """
        self.name = name
        self.base = Path()
        self._head: dict[str, Any] = {"name": name, "description": description, "params": dict(params or {})}
        self._stages = [stage if isinstance(stage, Stage) else Function(stage) for stage in stages]
        self._spec: PipelineSpec | None = None
        names = [stage.name for stage in self._stages]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise errors.InvalidSpec(
                f"Two stages are named {twice!r}.", field=f"stages.{twice}", remedy="Give one of them another `name=`."
            )
        if not names:
            raise errors.InvalidSpec("A pipeline needs at least one stage.", field="stages")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Pipeline:
        """Read a pipeline file, YAML or JSON. Relative paths in it start at its directory.

        Raises:
            NotFound, InvalidSpec: With the field's path.
        """
        file = Path(path).expanduser()
        return cls._of(load_spec_file(file), file.absolute().parent)

    @classmethod
    def from_text(cls, text: str, *, base: str | PathLike[str] = ".") -> Pipeline:
        """Read a pipeline from YAML or JSON text. Raises InvalidSpec."""
        return cls._of(load_spec(text), Path(base).absolute())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, base: str | PathLike[str] = ".") -> Pipeline:
        """Take a pipeline as the mapping that a file would hold. Raises InvalidSpec."""
        return cls._of(load_spec(document), Path(base).absolute())

    @classmethod
    def of_stage(cls, stage: Stage) -> Pipeline:
        """A pipeline of one stage, called as the stage."""
        return cls(stage.name, stages=[stage])

    @classmethod
    def _of(cls, spec: PipelineSpec, base: Path) -> Pipeline:
        pipeline = cls.__new__(cls)
        pipeline.name, pipeline.base, pipeline._spec, pipeline._stages = spec.name, base, spec, []
        return pipeline

    def spec(self, *, upload: Uploader, wants_data: bool) -> tuple[PipelineSpec, dict[str, Any]]:
        """Return the spec, and values for parameters that stages in Python brought as artifacts, URLs or paths.

        Args:
            upload: Stores the code of functions.
            wants_data: Whether the caller gives `data=`, so that a stage without its main input takes it.

        Raises:
            InvalidSpec: A setting has a wrong type, or a function cannot travel.
        """
        if self._spec is not None:
            return self._spec, {}
        params, values = dict(self._head["params"]), dict[str, Any]()
        written: dict[str, StageSpec] = {}
        for stage in self._stages:
            inputs = {port: _reference(stage, port, value, params, values) for port, value in stage.inputs.items()}
            spec = _written(stage, inputs, upload)
            main = _open_main_input(stage, spec, self._stages, wants_data=wants_data)
            if main:
                params.setdefault(DATA, {"type": "dataset"})
                spec = spec.model_copy(update={"inputs": {**spec.inputs, main: f"$params.{DATA}"}})
            written[stage.name] = spec
        return validate(PipelineSpec, {**self._head, "params": params, "stages": written}), values

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r})"


def _written(stage: Stage, inputs: Mapping[str, Any], upload: Uploader) -> StageSpec:
    try:
        return stage.spec(inputs=inputs, upload=upload)
    except ValidationError as error:
        raise spec_error(StageSpec, error, field=f"stages.{stage.name}") from None


def _open_main_input(stage: Stage, spec: StageSpec, stages: Sequence[Stage], *, wants_data: bool) -> str:
    """The input of a stage that takes the pipeline's data because nothing else fills it; empty if there is none.

    `clean` has no earlier stage to take sources from; the only stage of a pipeline takes what the caller gives.
    """
    main = stage.main_input
    if spec.function is not None and len(spec.function.inputs) == 1:
        main = next(iter(spec.function.inputs))
    alone = len(stages) == 1 and wants_data
    opens = (stage.kind == "clean" or alone) and main not in spec.inputs
    makes_source = any(other.kind == "ingest" for other in stages)
    return main if opens and not (makes_source and not alone) else ""


def _reference(
    stage: Stage, port: str, value: Input | Sequence[Input], params: dict[str, Any], values: dict[str, Any]
) -> Any:
    """An input as the spec writes it; what is not a reference yet becomes a parameter with that value."""
    if isinstance(value, str) and not value.startswith(REMOTE_SCHEMES):
        return value
    if isinstance(value, str | ArtifactRef | PathLike):
        name = f"{stage.name}_{port}".replace("-", "_")
        params[name] = {"type": "dataset"}
        values[name] = value
        return f"$params.{name}"
    return [_reference(stage, f"{port}_{i}", item, params, values) for i, item in enumerate(value)]
