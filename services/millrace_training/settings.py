"""What `train` accepts under `with`, and its stage kind. Light: imported to plan, not to work."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from millrace import errors
from millrace.architectures.arguments import data_bound, parse_arguments
from millrace.contracts.stages import Port, StageConfig, StageKind
from millrace_training.recipes import RECIPES, Recipe

Augmentation = Literal["none", "jitter"]


class TrainConfig(StageConfig):
    """Train a model on the train split, and keep the state that does best on the validation split.

    What is left out comes from the task's recipe (`recipes.py`), which was tuned on public data.
    """

    task: str = Field(default="", description="Task kind; empty: the one that the data set was cleaned for.")
    architecture: str = Field(default="", description="`name@version`, such as `mlp@1`; empty: the recipe's.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the architecture, over the recipe's, such as {layers: 4}."
    )
    epochs: int | None = Field(default=None, ge=1, le=100_000, description="Passes over the train split.")
    steps: int | None = Field(default=None, ge=1, le=100_000_000, description="Optimizer steps, instead of epochs.")
    max_seconds: float | None = Field(
        default=None, gt=0, description="Time limit; the learning rate still comes down in time. Binding it costs "
        "reproducibility, because how many steps fit depends on the machine."
    )  # fmt: skip
    batch_size: int | None = Field(default=None, ge=1, le=65_536, description="Rows, or sequences, a step.")
    optimizer: Literal["adamw", "muon"] | None = Field(
        default=None, description="muon: hidden matrices by Muon, the rest by AdamW."
    )
    learning_rate: float | None = Field(default=None, gt=0, le=10, description="At its peak.")
    weight_decay: float | None = Field(default=None, ge=0, le=10, description="Decoupled, on matrices only.")
    warmup: float | None = Field(default=None, ge=0, lt=1, description="Share of training in which the rate rises.")
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1, description="Short for arguments.dropout.")
    augment: Augmentation | None = Field(
        default=None, description="jitter: images are shifted, turned and scaled a little, anew in each step."
    )
    ema: float | None = Field(
        default=None, ge=0, lt=1, description="Decay a step of the averaged weights that are judged and kept; 0: none."
    )
    patience: int | None = Field(
        default=None, ge=0, description="Evaluations without a gain before it stops; 0: never."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 autocast if a short measurement finds it at least 15% faster."
    )
    checkpoint_every_s: float = Field(
        default=60.0, gt=0, description="How often the resumable state is stored; a minute is what a crash may cost."
    )

    @field_validator("task")
    @classmethod
    def _known_task(cls, name: str) -> str:
        if name and name not in RECIPES:
            raise ValueError(f"no task {name!r} can be trained; {errors.nearest(name, RECIPES)}")
        return name

    @model_validator(mode="after")
    def _architecture_fits(self) -> TrainConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.architecture or (self.arguments and self.task):
            check_arguments(self.architecture or RECIPES[self.task].architecture, self.arguments)
        return self

    def recipe(self, task: str) -> Recipe:
        """The task's recipe with what this config says put over it."""
        recipe = RECIPES[task]
        own = bool(self.architecture) and self.architecture != recipe.architecture
        arguments = {**({} if own else recipe.arguments), **self.arguments}
        if self.dropout is not None:
            arguments["dropout"] = self.dropout
        names = {f.name for f in fields(Recipe)} & self.model_fields_set - {"architecture", "arguments"}
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.epochs is not None:
            given["steps"] = 0
        return replace(recipe, architecture=self.architecture or recipe.architecture, arguments=arguments, **given)


def check_arguments(architecture: str, arguments: dict[str, Any]) -> None:
    """Refuse unknown architectures, and arguments that are unknown, out of range, or follow from the data.

    Raises:
        ValueError: Says which and why.
    """
    try:
        bound = data_bound(architecture)
        for name in bound & arguments.keys():
            raise ValueError(f"arguments.{name} follows from the data; leave it out")
        parse_arguments(architecture, {**dict.fromkeys(bound, 2), **arguments})
    except errors.InvalidSpec as error:
        raise ValueError(str(error)) from None


TRAIN = StageKind(
    name="train",
    caption="Trains a model on a data set and exports its portable program.",
    service="training",
    module="millrace_training.stage",
    config=TrainConfig,
    inputs={"dataset": Port(type="dataset")},
    outputs={"model": Port(type="model")},
    preload=("numpy", "pyarrow", "pyarrow.parquet", "torch", "safetensors.torch", "onnxruntime"),
)
