"""Optimizers and the learning rate's course."""

from __future__ import annotations

import torch
from torch.optim import AdamW, Muon, Optimizer

from millrace.architectures.base import Architecture
from millrace_training.recipes import Recipe

ADAM_SHARE = 0.3
"""Beside Muon, embeddings, heads and vectors take this share of its rate, by AdamW."""


class Optimizers:
    """The optimizers of one model, stepped together. Their whole state is tensors; the rate is set anew each step."""

    def __init__(self, model: Architecture, recipe: Recipe) -> None:
        matrices = model.hidden_matrices() if recipe.optimizer == "muon" else frozenset()
        muon, groups = [], []
        for name, parameter in model.named_parameters():
            if name in matrices:
                muon.append(parameter)
                continue
            share = ADAM_SHARE if recipe.optimizer == "muon" else 1.0
            groups.append({
                "params": [parameter], "lr": recipe.learning_rate * share * model.learning_rate_scale(name),
                "weight_decay": recipe.weight_decay if parameter.ndim > 1 else 0.0,
            })  # fmt: skip
        self.all: list[Optimizer] = [AdamW(groups, betas=(0.9, 0.98), foreach=True)]
        if muon:
            self.all.append(
                Muon(muon, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        self._peaks = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self.all]

    def step(self, *, scale: float) -> None:
        """Update every parameter at `scale` times its peak rate, and forget the gradients."""
        for optimizer, peaks in zip(self.all, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state by `<optimizer>.<parameter>.<key>`; empty before the first step."""
        return {
            f"{i}.{p}.{key}": value
            for i, optimizer in enumerate(self.all)
            for p, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over a state that `tensors` gave."""
        for i, optimizer in enumerate(self.all):
            whole = optimizer.state_dict()
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in tensors.items():
                place, parameter, key = name.split(".")
                if int(place) == i:
                    state.setdefault(int(parameter), {})[key] = value
            optimizer.load_state_dict({**whole, "state": state})


def rate_scale(done: float, *, warmup: float, cooldown: float, first: float) -> float:
    """The learning rate as a share of its peak: a rise, a plateau, a fall to zero (trapezoid; Hägele et al. 2024).

    Args:
        done: Share of training that is over, 0 to 1.
        warmup, cooldown: Shares of training that rise and fall take.
        first: Share that one step is: the first step has a rate above zero, and the last one too.
    """
    rise = min(1.0, (done + first) / warmup) if warmup else 1.0
    fall = min(1.0, (1.0 - done) / cooldown) if cooldown else 1.0
    return max(rise * fall, 0.0)
