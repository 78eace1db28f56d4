"""A task on its data, made ready: features fitted on the train split, tensors on disk, the objective, what answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from millrace import errors
from millrace.architectures.arguments import arguments_class
from millrace.architectures.base import Architecture
from millrace.architectures.gpt import Gpt
from millrace.architectures.mlp import Mlp
from millrace.architectures.text_encoder import TextEncoder
from millrace.contracts.schema import Column
from millrace.models.featurizers import column_spec, fit
from millrace.models.ops.base import Array, Op
from millrace.models.ops.tokens import CharTokens
from millrace.models.package import NUM_GOLDEN_ROWS
from millrace.models.signature import ColumnSpec, OutputSpec
from millrace_training.data import Dataset, Rows, featurize, finite, tokenize
from millrace_training.features import featurizers, target_of
from millrace_training.objectives import LanguageObjective, Objective, RowsObjective
from millrace_training.recipes import Recipe

PROMPT_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be learned.

    Attributes:
        ops: Fitted featurizers.
        columns: What a caller sends.
        answers: What the model answers.
        bound: The architecture's arguments that follow from the data.
        objective: Loss and metrics.
        golden: Raw rows whose answers are kept with the model.
        target: Shift and scale of a numeric target, which is standardized in training.
    """

    task: str
    ops: tuple[Op, ...]
    columns: tuple[ColumnSpec, ...]
    answers: tuple[OutputSpec, ...]
    bound: dict[str, Any]
    objective: Objective
    golden: pa.RecordBatch
    target: tuple[float, float] = (0.0, 1.0)

    def prime(self, model: Architecture) -> None:
        """What an architecture takes from the train split before its first step: how rare each n-gram is."""
        if not isinstance(model, TextEncoder) or not isinstance(self.objective, RowsObjective):
            return
        train = self.objective.train
        for name, bag in (("word_ngrams", model.word_bag), ("char_ngrams", model.char_bag)):
            counts = np.zeros(len(bag.rarity), dtype=np.int64)
            for row in range(len(train)):
                counts[np.unique(train.columns[name].row(row))] += 1
            bag.weigh(torch.from_numpy(counts), num_documents=len(train))

    def finish(self, model: Architecture) -> None:
        """Let a model of a standardized target answer in the target's own unit."""
        if isinstance(model, Mlp) and self.target != (0.0, 1.0):
            model.rescale_outputs(shift=self.target[0], scale=self.target[1])

    def cases(self, model: Architecture) -> list[tuple[Tensor, ...]]:
        """Real inputs of different sizes, to compare the exported program on."""
        if isinstance(self.objective, LanguageObjective):
            assert isinstance(model, Gpt)
            return _language_cases(model, self.objective)
        assert isinstance(self.objective, RowsObjective)
        rows, names = self.objective.validation, [p.name for p in model.inputs]
        return [
            rows.batch(np.arange(start, min(stop, len(rows))), names)[0] for start, stop in ((0, 3), (0, 1), (0, 40))
        ]


def prepare(
    dataset: Dataset, task: str, recipe: Recipe, directory: Path, *, seed: int, device: torch.device
) -> Problem:
    """Fit features on the train split and bring both splits to tensors under the directory.

    Raises:
        InvalidData, InvalidSpec: Of the data's roles, types and values; see `features` and `data`.
    """
    schema = dataset.meta.schema_
    target = target_of(task, schema)
    defaults = {k: f.default for k, f in arguments_class(recipe.architecture).model_fields.items()}
    specs = featurizers(task, schema, {**defaults, **recipe.arguments})
    ops = fit(specs, finite(dataset.batches("train"), schema.with_role("feature")), schema.columns)
    columns = tuple(column_spec(c) for c in schema.with_role("feature"))
    if target is None:
        return _language(dataset, task, recipe, directory, ops, columns, seed=seed, device=device)
    return _rows(dataset, task, recipe, directory, ops, columns, target, seed=seed, device=device)


def _rows(
    dataset: Dataset, task: str, recipe: Recipe, directory: Path, ops: tuple[Op, ...],
    columns: tuple[ColumnSpec, ...], target: Column, *, seed: int, device: torch.device,
) -> Problem:  # fmt: skip
    labels = target.vocabulary if target.type == "category" else None
    train, validation = (
        featurize(dataset, split, ops, directory, target=target.name, labels=labels)
        for split in ("train", "validation")
    )
    moments = (0.0, 1.0)
    if labels is None:
        train, validation, moments = _standardize(train, validation)
    elif int(train.targets.max()) == int(train.targets.min()):
        raise errors.InvalidData(
            f"All {len(train)} rows of the train split have the target {labels[int(train.targets[0])]!r}.",
            field=target.name, remedy="Give data with several classes, or another split.",
        )  # fmt: skip
    image = (
        next((c.shape for c in columns if c.shape and len(c.shape) == 3), None) if recipe.augment == "jitter" else None
    )
    objective = RowsObjective(
        train, validation, num_classes=len(labels or ()), batch_size=recipe.batch_size, seed=seed, device=device,
        label_smoothing=recipe.label_smoothing, image=image, target_scale=moments[1],
    )  # fmt: skip
    bound: dict[str, Any] = {"num_outputs": len(labels) if labels else 1}
    if "features" in train.columns:
        bound["num_inputs"] = train.columns["features"].width
    answers = (
        (OutputSpec(name="label", meaning="label", labels=labels),
         OutputSpec(name="probabilities", meaning="probabilities", labels=labels))
        if labels else (OutputSpec(name="value", meaning="value", unit=target.unit),)
    )  # fmt: skip
    return Problem(
        task=task, ops=ops, columns=columns, answers=answers, bound=bound, objective=objective,
        golden=_golden(dataset, columns), target=moments,
    )  # fmt: skip


def _standardize(train: Rows, validation: Rows) -> tuple[Rows, Rows, tuple[float, float]]:
    mean, deviation = train.targets.mean().item(), train.targets.std(correction=0).item()
    scale = deviation if deviation > 1e-12 * max(abs(mean), 1.0) else 1.0
    parts = [replace(rows, targets=((rows.targets - mean) / scale).float()) for rows in (train, validation)]
    return parts[0], parts[1], (mean, scale)


def _language(
    dataset: Dataset, task: str, recipe: Recipe, directory: Path, ops: tuple[Op, ...],
    columns: tuple[ColumnSpec, ...], *, seed: int, device: torch.device,
) -> Problem:  # fmt: skip
    tokenizer = ops[0]
    assert isinstance(tokenizer, CharTokens)
    train, _ = tokenize(dataset, "train", tokenizer, directory / "train.tokens")
    validation, num_characters = tokenize(dataset, "validation", tokenizer, directory / "validation.tokens")
    length = recipe.arguments.get(
        "max_context", arguments_class(recipe.architecture).model_fields["max_context"].default
    )
    objective = LanguageObjective(
        train, validation, num_characters=num_characters, max_context=length, batch_size=recipe.batch_size,
        seed=seed, device=device,
    )  # fmt: skip
    return Problem(
        task=task, ops=ops, columns=columns, answers=(OutputSpec(name="logits", meaning="logits"),),
        bound={"num_tokens": tokenizer.vocabulary_size}, objective=objective,
        golden=_prompts(tokenizer, validation),
    )  # fmt: skip


def _golden(dataset: Dataset, columns: Sequence[ColumnSpec]) -> pa.RecordBatch:
    """The first rows of the validation split, and of the train split where those are too few."""
    batches: list[pa.RecordBatch] = []
    for split in ("validation", "train"):
        for batch in dataset.batches(split, columns=[c.name for c in columns]):
            missing = NUM_GOLDEN_ROWS - sum(b.num_rows for b in batches)
            if missing > 0:
                batches.append(batch.slice(0, missing))
            else:
                break
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _prompts(tokenizer: CharTokens, stream: Array) -> pa.RecordBatch:
    """Pieces of the validation text, evenly spread: documents may be few and long."""
    starts = np.linspace(0, max(len(stream) - PROMPT_CHARACTERS, 0), NUM_GOLDEN_ROWS).astype(int)
    texts = [tokenizer.decode(stream[s : s + PROMPT_CHARACTERS]) for s in starts]
    return pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], names=list(tokenizer.spec.columns))


def _language_cases(model: Gpt, objective: LanguageObjective) -> list[tuple[Tensor, ...]]:
    tokens = torch.from_numpy(objective.validation[: min(objective.max_context, 48)].astype(np.int64))
    empty = model.inputs[1].example({"batch": 1, "past": 0})
    with torch.no_grad():
        _, cache = model(tokens[None, :7], empty)
    pair = cache.expand(-1, -1, 2, -1, -1, -1).contiguous()
    return [(tokens[None, 7:12], cache), (tokens[None], empty), (tokens[7:9, None], pair), (tokens[None, 7:8], cache)]
