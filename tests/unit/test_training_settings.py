"""What `train` accepts: recipes under a config, and refusals at submit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from millrace.contracts.schema import TASK_KINDS
from millrace_training.recipes import RECIPES
from millrace_training.settings import TrainConfig, check_arguments


def test_every_task_has_a_recipe_whose_arguments_are_valid() -> None:
    assert set(RECIPES) == set(TASK_KINDS)
    for recipe in RECIPES.values():
        check_arguments(recipe.architecture, dict(recipe.arguments))
        assert bool(recipe.epochs) != bool(recipe.steps)


def test_a_config_goes_over_the_recipe() -> None:
    config = TrainConfig(task="image_classification", arguments={"width": 32}, dropout=0.5, epochs=3)
    recipe = config.recipe("image_classification")
    assert recipe.epochs == 3
    assert recipe.steps == 0
    assert recipe.arguments["width"] == 32
    assert recipe.arguments["depth"] == RECIPES["image_classification"].arguments["depth"]
    assert recipe.arguments["dropout"] == 0.5
    assert recipe.learning_rate == RECIPES["image_classification"].learning_rate


def test_epochs_replace_the_steps_of_a_recipe() -> None:
    assert TrainConfig(epochs=2).recipe("language_modelling").steps == 0


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"task": "image_clasification"}, "did you mean 'image_classification'"),
        ({"architecture": "mpl@1"}, "did you mean 'mlp@1'"),
        ({"task": "image_classification", "arguments": {"widht": 3}}, "did you mean 'width'"),
        ({"architecture": "mlp@1", "arguments": {"num_inputs": 3}}, "follows from the data"),
        ({"architecture": "gpt@1", "arguments": {"width": 30, "heads": 4}}, "even whole number"),
        ({"epochs": 2, "steps": 3}, "not both"),
        ({"learning_rate": -1}, "greater than 0"),
        ({"learning_rat": 0.1}, "Extra inputs"),
    ],
)
def test_a_wrong_config_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TrainConfig(**values)


def test_planning_imports_no_framework() -> None:
    code = "import sys, millrace_training.settings; sys.exit(bool({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
