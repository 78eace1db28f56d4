"""What a task trains with unless told otherwise. Tuned on digits, breast_cancer, docstrings and pydoc_data.topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of one training.

    Attributes:
        epochs, steps: One of them counts: steps unless it is 0.
        evaluate_every: Steps between evaluations; 0: once an epoch.
        choose_by: What picks the state that is kept: the task's metric, or the loss where validation rows are so few that
            a metric of whole rows is mostly luck.
        cooldown: Share of training, at its end, in which the learning rate falls to zero.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    steps: int = 0
    max_seconds: float = 0.0
    evaluate_every: int = 0
    batch_size: int = 64
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    cooldown: float = 0.95
    label_smoothing: float = 0.0
    augment: Literal["none", "jitter"] = "none"
    ema: float = 0.0
    patience: int = 0
    choose_by: Literal["metric", "loss"] = "metric"


RECIPES: Mapping[str, Recipe] = {
    "tabular_classification": Recipe(
        architecture="mlp@1", arguments={"width": 128, "depth": 2, "dropout": 0.2, "linear_skip": True},
        epochs=60, batch_size=64, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05, ema=0.98, choose_by="loss",
    ),
    "tabular_regression": Recipe(
        architecture="mlp@1", arguments={"width": 128, "depth": 2, "dropout": 0.1, "linear_skip": True},
        epochs=60, batch_size=64, learning_rate=2e-3, weight_decay=0.05, ema=0.98,
    ),
    "image_classification": Recipe(
        architecture="mlp@1", arguments={"width": 384, "depth": 2, "dropout": 0.2},
        epochs=80, batch_size=64, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05, augment="jitter", ema=0.98,
    ),
    "text_classification": Recipe(
        architecture="text_encoder@1", epochs=6, batch_size=32, learning_rate=3e-3, weight_decay=0.0,
    ),
    "language_modelling": Recipe(
        architecture="gpt@1", arguments={"layers": 4, "width": 192, "heads": 6, "max_context": 256, "dropout": 0.1},
        steps=1000, max_seconds=285.0, evaluate_every=250, batch_size=8, optimizer="muon", learning_rate=0.01,
        weight_decay=0.05, warmup=0.02, cooldown=0.6,
    ),
}  # fmt: skip
