"""Stages in Python: each class is a stage of that kind, for a pipeline or to be submitted alone.

Common settings are keyword parameters; `with_` takes the rest of a kind's configuration. Which fields there are, and of what
type, the installed kinds decide when the stage is submitted. In the place of any setting, `"$params.name"` stands for the
pipeline's parameter. An input is `"stage.port"`, `"$params.name"`, an artifact, an `s3://` URL, or a `Path` that is uploaded;
an input that is left out binds to the nearest earlier port of its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from types import FunctionType
from typing import Any, Literal, Unpack

from millrace import errors
from millrace.client.stage import FunctionLike, Input, Inputs, Options, Stage, Uploader, given
from millrace.contracts.pipelines import StageSpec

__all__ = [
    "Audit", "Clean", "Deploy", "Evaluate", "Function", "FunctionLike", "Ingest", "Input", "Inputs", "Optimize", "Options",
    "Predict", "Stage", "Tokenize", "Train", "Uploader",
]  # fmt: skip

ITEM = "item"
"""The parameter of a function that gets an item of `foreach`."""

BadInputPolicy = Literal["fail", "skip", "quarantine"]


class Ingest(Stage):
    """Copies an outside location into the store, once."""

    def __init__(self, uri: str, **options: Unpack[Options]) -> None:
        super().__init__("ingest", config={"uri": uri}, **options)


class Clean(Stage):
    """Turns raw files into a typed data set: rows that passed the recipe, an account of the others, leak-free splits.

    `steps` are mappings such as `{"step": "language", "keep": ["en"]}`, in the order in which they are applied.
    `terms` holds the files that blocklists name in `terms_from`.
    `terms` holds the files that a blocklist names in `terms_from`.
    """

    main_input = "raw"

    def __init__(
        self,
        *,
        raw: Input | None = None,
        terms: Input | None = None,
        task: str | None = None,
        target: str | Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        drop: str | Sequence[str] | None = None,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        steps: Sequence[Mapping[str, Any]] | None = None,
        split: Mapping[str, Any] | None = None,
        dedup: bool | None = None,
        near_dedup: bool | Mapping[str, Any] | None = None,
        expect: Sequence[Mapping[str, Any]] | None = None,
        on_bad_row: BadInputPolicy | None = None,
        on_bad_file: BadInputPolicy | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {
            "task": task, "target": target, "features": features, "ignore": ignore, "drop": drop, "columns": columns,
            "steps": steps,
            "split": split, "dedup": dedup, "near_dedup": near_dedup, "expect": expect, "on_bad_row": on_bad_row,
            "on_bad_file": on_bad_file,
        }  # fmt: skip
        super().__init__("clean", inputs=given(raw=raw, terms=terms), config=config, **options)


class Audit(Stage):
    """Looks for what would mislead who learns from a data set: leaks, shifts, wrong labels. It changes nothing."""

    main_input = "dataset"

    def __init__(
        self,
        *,
        dataset: Input | None = None,
        checks: str | Sequence[str] | None = None,
        fail_on: str | Sequence[str] | None = None,
        max_rows: int | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {"checks": checks, "fail_on": fail_on, "max_rows": max_rows}
        super().__init__("audit", inputs=given(dataset=dataset), config=config, **options)


class Tokenize(Stage):
    """Turns a data set's texts into packed token streams, by a tokenizer that it trains or is given."""

    main_input = "dataset"

    def __init__(
        self,
        *,
        dataset: Input | None = None,
        tokenizer: Input | None = None,
        column: str | None = None,
        vocabulary_size: int | str | None = None,
        special_tokens: Sequence[str] | None = None,
        end_of_text: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {
            "column": column, "vocabulary_size": vocabulary_size, "special_tokens": special_tokens,
            "end_of_text": end_of_text,
        }  # fmt: skip
        super().__init__("tokenize", inputs=given(dataset=dataset, tokenizer=tokenizer), config=config, **options)


class Train(Stage):
    """Trains a model on the train split, choosing by the validation split."""

    main_input = "dataset"

    def __init__(
        self,
        *,
        dataset: Input | None = None,
        task: str | None = None,
        architecture: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        epochs: int | str | None = None,
        max_seconds: float | str | None = None,
        batch_size: int | str | None = None,
        learning_rate: float | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {
            "task": task, "architecture": architecture, "arguments": arguments, "epochs": epochs,
            "max_seconds": max_seconds, "batch_size": batch_size, "learning_rate": learning_rate,
        }  # fmt: skip
        super().__init__("train", inputs=given(dataset=dataset), config=config, **options)


class Evaluate(Stage):
    """Measures a model on the test split, with intervals, and passes or fails it by the gate."""

    main_input = "dataset"

    def __init__(
        self,
        *,
        model: Input | None = None,
        dataset: Input | None = None,
        gate: str | Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        rules = [gate] if isinstance(gate, str) and not gate.startswith("$") else gate
        super().__init__("evaluate", inputs=given(model=model, dataset=dataset), config={"gate": rules}, **options)


class Optimize(Stage):
    """Makes variants of a model, checks and times them, and chooses one under the constraint."""

    main_input = "dataset"

    def __init__(
        self,
        *,
        model: Input | None = None,
        dataset: Input | None = None,
        minimize: str | None = None,
        subject_to: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {"minimize": minimize, "subject_to": subject_to}
        super().__init__("optimize", inputs=given(model=model, dataset=dataset), config=config, **options)


class Deploy(Stage):
    """Proves a judged model without traffic and makes it the release of an endpoint."""

    main_input = "model"

    def __init__(
        self,
        endpoint: str,
        *,
        model: Input | None = None,
        report: Input | None = None,
        sample: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {"endpoint": endpoint, "sample": sample}
        super().__init__("deploy", inputs=given(model=model, report=report), config=config, **options)


class Predict(Stage):
    """Predicts every row of a data set or of raw files, in parallel shards."""

    main_input = "data"

    def __init__(
        self,
        *,
        model: Input | None = None,
        data: Input | None = None,
        num_shards: int | str | None = None,
        splits: Sequence[Literal["train", "validation", "test"]] | None = None,
        columns: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        config = {"num_shards": num_shards, "splits": splits, "columns": columns}
        super().__init__("predict", inputs=given(model=model, data=data), config=config, **options)


class Function(Stage):
    """A `@millrace.stage` function in a pipeline, with its inputs and parameters."""

    def __init__(
        self,
        function: FunctionLike,
        *,
        inputs: Inputs | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        if not isinstance(function, FunctionLike):
            raise errors.InvalidSpec(
                f"Expected a pipeline, a stage or a @millrace.stage function; found {_named(function)}.",
                remedy=_how_to_run(function),
            )
        super().__init__(function.name.lower().strip("_"), inputs=inputs, config=params, **options)
        self.function: FunctionLike = function

    def spec(self, *, inputs: Mapping[str, Any], upload: Uploader) -> StageSpec:
        """As of every stage, after the function's code was uploaded.

        Raises:
            InvalidSpec: The function cannot travel, or a parameter or an item is not what its type says.
        """
        function, field = self.function, f"stages.{self.name}"
        code = function.spec(upload)
        siblings = dict(self._siblings)
        foreach = siblings.get("foreach")
        if isinstance(foreach, list | tuple):
            siblings["foreach"] = [
                function.as_json({ITEM: item}, field=f"{field}.foreach.{index}")[ITEM]
                for index, item in enumerate(foreach)
            ]
        config = function.as_json(self.config, field=f"{field}.with")
        return StageSpec.model_validate({"inputs": dict(inputs), "function": code, "with": config, **siblings})


def _named(found: object) -> str:
    return f"function {found.__name__!r}" if isinstance(found, FunctionType) else repr(found)


def _how_to_run(found: object) -> str:
    if isinstance(found, FunctionType):
        return "Put @millrace.stage above it."
    if isinstance(found, str | PathLike):
        return "A file is read with Pipeline.load(path)."
    if isinstance(found, Mapping):
        return "Make it one with Pipeline.from_dict(mapping)."
    return "See millrace.stages."
