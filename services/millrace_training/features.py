"""Which columns a task reads, and by which featurizers: the roles of the schema to declarative operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace import errors
from millrace.contracts.schema import TASK_KINDS, Column, DatasetSchema
from millrace.models.signature import FeaturizerOp

MAX_NGRAMS = 2048
MAX_WORDS = 128
"""What a text may bring to the encoder; docstrings have 200 n-grams at the median and 940 at the 95th percentile."""

NUMERIC = ("number", "integer", "boolean", "timestamp", "vector")


def choose_task(named: str, schema: DatasetSchema) -> str:
    """The config's task, or the one the data set was cleaned for.

    Raises:
        InvalidSpec: Neither says it, or it is not one that can be trained.
    """
    task = named or schema.task
    if task not in TASK_KINDS:
        found = f"Unknown task {task!r}" if task else "Neither the config nor the data set names a task"
        raise errors.InvalidSpec(
            f"{found}; {errors.nearest(task, TASK_KINDS)}", field="task", remedy="Set `task` under train's `with`."
        )
    return task


def target_of(task: str, schema: DatasetSchema) -> Column | None:
    """The one target column; None for a task without.

    Raises:
        InvalidData: There is none, there are several, its type does not fit, or it has one class only.
    """
    kind = TASK_KINDS[task]
    if "target" not in kind.required_roles:
        return None
    targets = schema.with_role("target")
    if len(targets) != 1:
        names = [c.name for c in targets or schema.columns]
        raise errors.InvalidData(
            f"{task} needs one target column, found {len(targets)} ({', '.join(names[:8])}).", field="target",
            remedy="Name one as `target` in the clean stage.",
        )  # fmt: skip
    target = targets[0]
    if target.type not in kind.target_types:
        raise errors.InvalidData(
            f"{task} needs a target of type {' or '.join(kind.target_types)}; {target.name!r} is {target.type}.",
            field=target.name, remedy="Choose another task, or set the column's type in the clean stage.",
        )  # fmt: skip
    if target.type == "category" and len(target.vocabulary or ()) < 2:
        raise errors.InvalidData(
            f"The target {target.name!r} has {len(target.vocabulary or ())} class, expected two at least.",
            field=target.name, remedy="Give data with rows of each class.",
        )  # fmt: skip
    return target


def featurizers(task: str, schema: DatasetSchema, arguments: Mapping[str, Any]) -> tuple[FeaturizerOp, ...]:
    """The operations that make the architecture's inputs from the feature columns.

    Args:
        arguments: The architecture's arguments, defaults included: they say how many hash buckets there are.

    Raises:
        InvalidData: There is no feature, or one of a type that the task cannot read.
    """
    columns = schema.with_role("feature")
    if not columns:
        raise errors.InvalidData("The data set has no feature column.", remedy="Give a column beside the target.")
    if task.startswith("tabular"):
        return _table(columns)
    if task == "image_classification":
        column = _only(columns, ("image", "vector"), task)
        return (FeaturizerOp(op="image_scale@1", columns=(column.name,), output="features"),)
    if task == "language_modelling":
        column = _only(columns, ("text",), task)
        return (FeaturizerOp(op="char_tokens@1", columns=(column.name,), output="tokens"),)
    _refuse_others(columns, ("text", "category"), task)
    return _text(tuple(c.name for c in columns), arguments)


def _table(columns: Sequence[Column]) -> tuple[FeaturizerOp, ...]:
    _refuse_others(columns, (*NUMERIC, "category"), "a table")
    numeric = tuple(c.name for c in columns if c.type in NUMERIC)
    categories = tuple(c.name for c in columns if c.type == "category")
    ops = []
    if numeric:
        ops.append(FeaturizerOp(op="standardize@1", columns=numeric, output="features",
                                arguments={"missing_indicator": True}))  # fmt: skip
    if categories:
        ops.append(FeaturizerOp(op="one_hot@1", columns=categories, output="features"))
    return tuple(ops)


def _text(columns: tuple[str, ...], arguments: Mapping[str, Any]) -> tuple[FeaturizerOp, ...]:
    def op(output: str, **values: Any) -> FeaturizerOp:
        return FeaturizerOp(op="hashed_ngrams@1", columns=columns, output=output, arguments=values)

    return (
        op("word_ngrams", buckets=arguments["word_buckets"], max_length=MAX_NGRAMS, word_orders=[1, 2], char_orders=[],
           log_repeats=True),
        op("char_ngrams", buckets=arguments["char_buckets"], max_length=MAX_NGRAMS, word_orders=[],
           char_orders=[3, 4, 5], log_repeats=True),
        op("words", buckets=arguments["vocabulary"], max_length=MAX_WORDS, word_orders=[1], char_orders=[]),
    )  # fmt: skip


def _only(columns: Sequence[Column], types: tuple[str, ...], task: str) -> Column:
    fitting = [c for c in columns if c.type in types]
    if len(fitting) != 1 or len(columns) != 1:
        raise errors.InvalidData(
            f"{task} reads one column of type {' or '.join(types)}; the features are "
            f"{', '.join(f'{c.name} ({c.type})' for c in columns[:8])}.",
            field="columns", remedy="Give the other columns the role `ignore` in the clean stage.",
        )  # fmt: skip
    return fitting[0]


def _refuse_others(columns: Sequence[Column], types: tuple[str, ...], reader: str) -> None:
    for column in columns:
        if column.type not in types:
            raise errors.InvalidData(
                f"Column {column.name!r} is {column.type}; {reader} reads {', '.join(types)}.", field=column.name,
                remedy="Give it the role `ignore` in the clean stage, or choose another task.",
            )  # fmt: skip
