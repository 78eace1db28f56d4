"""What every stage in Python is made of: its options, its inputs, and what the pipeline says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.pipelines import FunctionSpec, Resources, Retry, StageSpec

Input = str | ArtifactRef | PathLike[str]
Inputs = Mapping[str, Input | Sequence[Input]]


class Options(TypedDict, total=False):
    """What any stage may say beside its configuration."""

    name: str
    """Of the stage in its pipeline; the kind's name unless given."""
    needs: Sequence[str]
    """Stages that must succeed before, beyond the inputs."""
    when: str
    """A condition over params, verdicts and metrics; false skips the stage."""
    foreach: Sequence[Any] | str
    """One task per item of a list, or per shard of the data set at an input."""
    resources: Resources | Mapping[str, Any]
    retry: Retry | Mapping[str, Any]
    timeout_s: float
    cache: bool
    env: Mapping[str, str]
    with_: Mapping[str, Any]
    """More of the kind's configuration."""


class Uploader(Protocol):
    """Stores an artifact (type; path in it -> bytes; meta) and returns its reference."""

    def __call__(self, type: ArtifactType, files: Mapping[str, bytes], meta: Mapping[str, Any], /) -> ArtifactRef: ...


@runtime_checkable
class FunctionLike(Protocol):
    """A `@millrace.stage` function: it can say what it is once its code has been uploaded."""

    @property
    def name(self) -> str: ...

    def spec(self, upload: Uploader) -> FunctionSpec: ...

    def as_json(self, values: Mapping[str, Any], *, field: str) -> dict[str, Any]: ...


class Stage:
    """A stage of any kind, such as one that a plug-in brings."""

    main_input = ""
    """The input that `data=` fills when the stage is submitted alone."""

    def __init__(
        self,
        kind: str,
        *,
        inputs: Inputs | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.kind = kind
        self.name = options.get("name") or kind
        self.inputs: dict[str, Input | Sequence[Input]] = dict(inputs or {})
        self.config = {key: value for key, value in (config or {}).items() if value is not None}
        self.config |= dict(options.get("with_") or {})
        self._siblings = {key: value for key, value in options.items() if key not in ("name", "with_")}

    def spec(self, *, inputs: Mapping[str, Any], upload: Uploader) -> StageSpec:  # noqa: ARG002 - a function uploads its code
        """What the pipeline says of this stage, its inputs given as references.

        Raises:
            ValueError: A setting cannot be written down (pydantic's ValidationError).
        """
        kind = "" if self.kind == self.name else self.kind
        fields = {"kind": kind, "inputs": dict(inputs), "with": self.config, **self._siblings}
        return StageSpec.model_validate(fields)

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in {**self.inputs, **self.config}.items())
        return f"{type(self).__name__}({settings})"


def given(**inputs: Input | None) -> dict[str, Input]:
    return {port: value for port, value in inputs.items() if value is not None}
