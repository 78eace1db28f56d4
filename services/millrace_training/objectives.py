"""What is minimised and what is judged, by task: rows with a target, or a stream of tokens."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from millrace import errors
from millrace.architectures.base import Architecture
from millrace.architectures.gpt import Gpt
from millrace.models.ops.base import Array
from millrace_training.augment import jitter
from millrace_training.data import Rows

ROWS_PER_EVALUATION = 256
IGNORED_BELOW = 1e-12


class Objective(Protocol):
    """A task on its data. Every batch is a function of (seed, step) alone, so that a resumed run sees the same ones.

    Attributes:
        primary: Name of the metric that chooses among states.
        higher_is_better: Its direction.
        steps_per_epoch: Steps in one pass over the train split.
        examples_per_step: Rows, or sequences, that a step takes.
        unit: What `examples` are called in the progress line.
    """

    primary: str
    higher_is_better: bool
    steps_per_epoch: int
    examples_per_step: int
    unit: str

    def loss(self, model: Architecture, *, step: int) -> Tensor:
        """Mean loss of the step's batch, a scalar."""

    def evaluate(self, model: Architecture) -> dict[str, float]:
        """Metrics on the validation split; `model` is in evaluation mode and gradients are off."""


class RowsObjective:
    """Classification by cross-entropy, regression by squared error on a standardized target."""

    unit = "rows"

    def __init__(
        self, train: Rows, validation: Rows, *, num_classes: int, batch_size: int, seed: int, device: torch.device,
        label_smoothing: float = 0.0, image: tuple[int, ...] | None = None, target_scale: float = 1.0,
    ) -> None:  # fmt: skip
        """See `Objective`.

        Args:
            num_classes: 0 for regression.
            image: (height, width, channels) of flattened images that are to be jittered; None for no augmentation.
            target_scale: Standard deviation of a numeric target, so that errors are reported in its unit.
        """
        self.train, self.validation = train, validation
        self.num_classes = num_classes
        self.batch_size = min(batch_size, len(train))
        self.steps_per_epoch = -(-len(train) // self.batch_size)
        self.examples_per_step = self.batch_size
        self.primary, self.higher_is_better = ("accuracy", True) if num_classes else ("rmse", False)
        self._seed, self._device = seed, device
        self._label_smoothing, self._image, self._target_scale = label_smoothing, image, target_scale
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def loss(self, model: Architecture, *, step: int) -> Tensor:
        inputs, targets = self._load(model, self.train, self._chosen(step))
        if self._image is not None:
            inputs = (jitter(inputs[0], shape=self._image), *inputs[1:])
        outputs = model(*inputs)
        if not self.num_classes:
            return F.mse_loss(outputs.float()[:, 0], targets)
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self._label_smoothing)

    def evaluate(self, model: Architecture) -> dict[str, float]:
        outputs, targets = [], []
        for start in range(0, len(self.validation), ROWS_PER_EVALUATION):
            index = np.arange(start, min(start + ROWS_PER_EVALUATION, len(self.validation)))
            inputs, target = self._load(model, self.validation, index)
            outputs.append(model(*inputs).float().cpu())
            targets.append(target.cpu())
        output, target = torch.cat(outputs), torch.cat(targets)
        return self._classification(output, target) if self.num_classes else self._regression(output[:, 0], target)

    def _classification(self, logits: Tensor, target: Tensor) -> dict[str, float]:
        accuracy = (logits.argmax(dim=1) == target).double().mean().item()
        return {"accuracy": accuracy, "loss": F.cross_entropy(logits, target).item()}

    def _regression(self, value: Tensor, target: Tensor) -> dict[str, float]:
        mse = F.mse_loss(value, target).item()
        variance = target.var(correction=0).item()
        return {
            "rmse": math.sqrt(mse) * self._target_scale, "loss": mse,
            "r2": 1 - mse / variance if variance > IGNORED_BELOW else 0.0,
        }  # fmt: skip

    def _chosen(self, step: int) -> Array:
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self.train))
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def _load(self, model: Architecture, rows: Rows, index: Array) -> tuple[tuple[Tensor, ...], Tensor]:
        inputs, targets = rows.batch(index, [port.name for port in model.inputs])
        return tuple(x.to(self._device) for x in inputs), targets.to(self._device)


class LanguageObjective:
    """The next token of random windows; bits per character over the whole validation split."""

    unit = "sequences"
    primary, higher_is_better = "bits_per_character", False

    def __init__(
        self, train: Array, validation: Array, *, num_characters: int, max_context: int, batch_size: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        """See `Objective`.

        Args:
            train, validation: Token streams.
            num_characters: In the validation split's texts: what bits are divided by.
        """
        for name, stream in (("train", train), ("validation", validation)):
            if len(stream) < max_context + 2:
                raise errors.InvalidSpec(
                    f"A context of {max_context} tokens does not fit into the {name} split, which has {len(stream)}.",
                    field="arguments.max_context", remedy="Shorten the context, or give more text.",
                )  # fmt: skip
        self.train, self.validation = train, validation
        self.max_context, self.examples_per_step = max_context, batch_size
        self.steps_per_epoch = max(1, len(train) // (max_context * batch_size))
        self._num_characters, self._seed, self._device = num_characters, seed, device

    def loss(self, model: Architecture, *, step: int) -> Tensor:
        random = np.random.default_rng((self._seed, step))
        starts = random.integers(0, len(self.train) - self.max_context, size=self.examples_per_step)
        windows = self._windows(self.train, starts, self.max_context + 1)
        return _next_token_loss(model, windows).mean()

    def evaluate(self, model: Architecture) -> dict[str, float]:
        """Windows overlap by half and only what is new is counted, so that every token has a context to speak of."""
        half = self.max_context // 2
        length = len(self.validation)
        # The last window starts where it still fits whole; `fresh` says from where its tokens were not yet counted.
        starts = [*range(0, length - self.max_context - 1, half), length - self.max_context - 1]
        nats, counted = 0.0, 1
        for i in range(0, len(starts), 16):
            group = np.array(starts[i : i + 16])
            losses = _next_token_loss(model, self._windows(self.validation, group, self.max_context + 1)).double()
            for start, row in zip(group.tolist(), losses, strict=True):
                nats += row[counted - start - 1 :].sum().item()
                counted = start + self.max_context + 1
        bits = nats / math.log(2)
        return {"bits_per_character": bits / self._num_characters, "loss": nats / (counted - 1)}

    def _windows(self, stream: Array, starts: Array, width: int) -> Tensor:
        tokens = stream[starts[:, None] + np.arange(width)].astype(np.int64)
        return torch.from_numpy(tokens).to(self._device)


def _next_token_loss(model: Architecture, windows_BT: Tensor) -> Tensor:
    assert isinstance(model, Gpt)
    logits_BTV = model.whole(windows_BT[:, :-1]).float()
    return F.cross_entropy(logits_BTV.transpose(1, 2), windows_BT[:, 1:], reduction="none")
