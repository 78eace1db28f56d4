"""How many threads a training uses: no more than its steps have work for."""

from __future__ import annotations

from millrace.architectures.base import Architecture
from millrace_training.objectives import Objective

MIN_FLOPS_PER_THREAD = 2.5e8
"""Of one step. Below, threads wait for each other longer than they work; where others use the cores too, ten times longer."""


def worthwhile_threads(model: Architecture, objective: Objective, *, at_most: int) -> int:
    """Threads for the steps of a training. It follows from model and batch alone, so that equal trainings give equal bytes."""
    flops_per_step = 3 * model.flops_per_example() * objective.examples_per_step
    return max(1, min(at_most, int(flops_per_step / MIN_FLOPS_PER_THREAD)))
