"""Optimizers, schedule, augmentation, precision, memory, data and export: each part of training alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from millrace import errors
from millrace.architectures.arguments import GptArguments, MlpArguments
from millrace.architectures.base import Architecture
from millrace.architectures.gpt import Gpt
from millrace.architectures.mlp import Mlp
from millrace.architectures.registry import build, outline
from millrace_training.augment import jitter
from millrace_training.data import StoredTensor
from millrace_training.export import export_onnx
from millrace_training.memory import available_bytes, check_fits
from millrace_training.objectives import LanguageObjective
from millrace_training.optimizers import Optimizers, rate_scale
from millrace_training.precision import choose_precision
from millrace_training.recipes import Recipe
from millrace_training.threads import worthwhile_threads

CPU = torch.device("cpu")


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    steps = 100
    rates = [rate_scale(i / steps, warmup=0.1, cooldown=0.4, first=1 / steps) for i in range(steps)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:60] == pytest.approx([1.0] * 51)
    assert rates[-1] == pytest.approx(0.025)
    assert rates == [*sorted(rates[:10]), *rates[10:60], *sorted(rates[60:], reverse=True)]


def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    model = build("mlp@1", {"num_inputs": 4, "num_outputs": 2, "width": 6})
    adamw, muon = Optimizers(model, Recipe(architecture="mlp@1", optimizer="muon")).all
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    assert taken == {id(p) for name, p in model.named_parameters() if name in model.hidden_matrices()}
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert rest | taken == {id(p) for p in model.parameters()}
    assert not rest & taken


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_optimizers_state_survives_its_tensors(optimizer: Literal["adamw", "muon"]) -> None:
    recipe = Recipe(architecture="mlp@1", optimizer=optimizer)
    torch.manual_seed(0)
    model = build("mlp@1", {"num_inputs": 4, "num_outputs": 2, "width": 6})
    first, x = Optimizers(model, recipe), torch.randn(8, 4)
    _update(model, first, x)
    twin = build("mlp@1", {"num_inputs": 4, "num_outputs": 2, "width": 6})
    twin.load_state_dict(model.state_dict())
    second = Optimizers(twin, recipe)
    second.load({name: value.clone() for name, value in first.tensors().items()})
    _update(model, first, x, scale=0.5)
    _update(twin, second, x, scale=0.5)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def _update(model: Architecture, optimizers: Optimizers, x: torch.Tensor, *, scale: float = 1.0) -> None:
    model(x).square().sum().backward()
    optimizers.step(scale=scale)


def test_jitter_moves_a_little_and_keeps_most_ink() -> None:
    torch.manual_seed(0)
    images = torch.zeros(200, 8, 8, 1)
    images[:, 3:5, 3:5] = 1.0
    moved = jitter(images.flatten(1), shape=(8, 8, 1)).view(200, 8, 8)
    ink = moved.sum(dim=(1, 2))
    assert 3.0 < ink.min() <= ink.mean() <= ink.max() < 5.2
    place = torch.arange(8.0)
    rows = (moved.sum(dim=2) * place).sum(dim=1) / ink
    # A pixel by the shift, and a fifth of one by what the turn and the edge's interpolation add.
    assert (rows - 3.5).abs().max() <= 1.2
    assert rows.std() > 0.3


def test_jitter_depends_on_the_seed_alone() -> None:
    images = torch.rand(3, 48)
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(jitter(images, shape=(4, 4, 3)))
    assert torch.equal(made[0], made[1])


def test_small_trainings_are_fp32_without_a_measurement() -> None:
    model = build("gpt@1", {"num_tokens": 9, "layers": 1, "width": 16, "heads": 2, "max_context": 8})
    tokens = np.arange(60) % 9
    objective = LanguageObjective(tokens, tokens, num_characters=60, max_context=8, batch_size=2, seed=0, device=CPU)
    assert choose_precision("auto", model, objective, device=CPU).name == "fp32"
    assert choose_precision("bf16", model, objective, device=CPU).name == "bf16"


@pytest.mark.parametrize(("width", "batch_size", "threads"), [(16, 2, 1), (256, 8, 4)])
def test_steps_get_the_threads_that_they_have_work_for(width: int, batch_size: int, threads: int) -> None:
    model = build("gpt@1", {"num_tokens": 9, "layers": 4, "width": width, "heads": 4, "max_context": 128})
    tokens = np.arange(600) % 9
    objective = LanguageObjective(
        tokens, tokens, num_characters=600, max_context=128, batch_size=batch_size, seed=0, device=CPU
    )
    assert worthwhile_threads(model, objective, at_most=4) == threads


def test_a_measurement_leaves_weights_and_gradients_alone() -> None:
    arguments = {"num_tokens": 9, "layers": 2, "width": 256, "heads": 4, "max_context": 128}
    model, tokens = build("gpt@1", arguments), np.arange(600) % 9
    objective = LanguageObjective(tokens, tokens, num_characters=600, max_context=128, batch_size=8, seed=0, device=CPU)
    before = [p.clone() for p in model.parameters()]
    chosen = choose_precision("auto", model, objective, device=CPU)
    assert chosen.fp32_s > 0
    assert chosen.bf16_s > 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))


def test_a_model_too_large_for_memory_is_refused_before_it_is_built() -> None:
    large = outline("mlp@1", {"num_inputs": 60_000, "num_outputs": 60_000, "width": 65_536, "depth": 64})
    with pytest.raises(errors.ResourceExhausted, match=r"GiB are free on cpu.*smaller"):
        check_fits(large, batch_size=8, device=CPU)


def test_a_small_model_fits() -> None:
    check_fits(outline("mlp@1", {"num_inputs": 4, "num_outputs": 2}), batch_size=8, device=CPU)
    assert available_bytes(CPU) > 2**20


def test_rows_of_ids_are_padded_to_the_longest_of_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_bytes(np.array([5, 6, 7, 8], dtype=np.int32).tobytes())
    column = StoredTensor(path, np.dtype(np.int32), shape=(4,), offsets=np.array([0, 3, 3, 4]))
    assert column.rows(np.array([0, 2])).tolist() == [[5, 6, 7], [8, 0, 0]]
    assert column.rows(np.array([1])).tolist() == [[0]]


def test_bits_per_character_count_every_token_once() -> None:
    class Uniform(Gpt):
        """As unsure as one can be: each of 8 tokens costs 3 bits."""

        def whole(self, tokens_BT: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*tokens_BT.shape, 8)

    model = Uniform(GptArguments(num_tokens=8, layers=1, width=16, heads=2, max_context=64))
    tokens = np.arange(1003) % 8
    objective = LanguageObjective(tokens, tokens, num_characters=1002, max_context=64, batch_size=1, seed=0, device=CPU)
    assert objective.evaluate(model) == pytest.approx({"bits_per_character": 3.0, "loss": math.log(8)})


def test_a_context_longer_than_the_text_is_refused() -> None:
    tokens = np.zeros(40, dtype=np.int64)
    with pytest.raises(errors.InvalidSpec, match=r"arguments.max_context: .*64 tokens.*has 40"):
        LanguageObjective(tokens, tokens, num_characters=40, max_context=64, batch_size=1, seed=0, device=CPU)


def test_a_program_that_differs_is_not_stored(tmp_path: Path) -> None:
    class Drifting(Mlp):
        """Answers differently in each call: no program can equal it."""

        def forward(self, features_BN: torch.Tensor) -> torch.Tensor:
            return super().forward(features_BN) + torch.randn(())

    model = Drifting(MlpArguments(num_inputs=3, num_outputs=2))
    with pytest.raises(errors.StageFailed, match="differs from the model's"):
        export_onnx(model.eval(), tmp_path / "p.onnx", cases=[(torch.zeros(2, 3),), (torch.zeros(1, 3),)])
