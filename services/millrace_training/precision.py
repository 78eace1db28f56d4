"""Mixed precision where it helps: decided by a short measurement, which the summary records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch

from millrace.architectures.base import Architecture
from millrace_training.objectives import Objective

NUM_TIMED_STEPS = 3
MIN_GAIN = 1.15
"""bf16 must be this much faster: less is noise, and fp32 rounds better."""
MIN_FLOPS_PER_STEP = 5e9
"""Below, a step is too short for it to matter: fp32, without a measurement, so that small trainings stay reproducible."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What was chosen and why; seconds of one step are 0 where nothing was measured."""

    name: Literal["fp32", "bf16"]
    fp32_s: float = 0.0
    bf16_s: float = 0.0


def choose_precision(
    asked: Literal["auto", "fp32", "bf16"], model: Architecture, objective: Objective, *, device: torch.device
) -> Precision:
    """Follow the config, or time forward and backward both ways. Leaves weights and gradients as they were."""
    if asked != "auto":
        return Precision(asked)
    if 3 * model.flops_per_example() * objective.examples_per_step < MIN_FLOPS_PER_STEP:
        return Precision("fp32")
    fp32_s, bf16_s = (_time(model, objective, bf16=bf16, device=device) for bf16 in (False, True))
    return Precision("bf16" if fp32_s > MIN_GAIN * bf16_s else "fp32", fp32_s=fp32_s, bf16_s=bf16_s)


def _time(model: Architecture, objective: Objective, *, bf16: bool, device: torch.device) -> float:
    durations = []
    for step in range(1 + NUM_TIMED_STEPS):  # the first one warms up and does not count
        begin = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = objective.loss(model.train(), step=step)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.perf_counter() - begin)
        model.zero_grad(set_to_none=True)
    return min(durations[1:])
