"""The training loop: seeded, resumable bit for bit, and judged on the validation split.

Every step seeds torch from (seed, step), and every batch is a function of (seed, step); so the state to save is weights,
optimizer moments and a few counters, and a resumed run repeats what an uninterrupted one does.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from millrace import errors
from millrace.architectures.base import Architecture
from millrace.runtime.stage import Context
from millrace_training.objectives import Objective
from millrace_training.optimizers import Optimizers, rate_scale
from millrace_training.recipes import Recipe

TIME_GRACE = 0.1
"""A time limit cannot bind in this first share of it: the first steps are slow and say little."""
MAX_GRADIENT_NORM = 1.0
SAY_EVERY_S = 0.1


@dataclass(slots=True)
class Counters:
    """The loop's own state; JSON in a checkpoint.

    Attributes:
        step: Steps that are done.
        elapsed_s: Seconds of training so far, over all attempts.
        best_step: When the best state was seen; -1 before the first evaluation.
        waited: Evaluations since then.
        finished: Whether training is over.
        cut: Whether the time limit ended it.
    """

    step: int = 0
    elapsed_s: float = 0.0
    best_step: int = -1
    best_value: float = math.nan
    best_loss: float = math.inf
    waited: int = 0
    finished: bool = False
    cut: bool = False


class Trainer:
    """One training in progress."""

    def __init__(
        self, model: Architecture, objective: Objective, recipe: Recipe, *, seed: int, bf16: bool, device: torch.device
    ) -> None:
        self.model, self.objective, self.recipe = model, objective, recipe
        self.seed, self.bf16, self.device = seed, bf16, device
        self.optimizers = Optimizers(model, recipe)
        self.averaged = copy.deepcopy(model).eval() if recipe.ema else None
        self.best = {name: value.clone() for name, value in self.judged.state_dict().items()}
        self.metrics: dict[str, float] = {}
        self.counters = Counters()
        self.total_steps = recipe.steps or recipe.epochs * objective.steps_per_epoch
        self.evaluate_every = recipe.evaluate_every or objective.steps_per_epoch

    @property
    def judged(self) -> Architecture:
        """The weights that are evaluated and kept: the running average if there is one."""
        return self.averaged or self.model

    def run(
        self, context: Context, *, checkpoint: Callable[[Trainer], object], hand_back: Callable[[Trainer], object],
        every_s: float, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Train to the end and leave the best state in `model`; stop wherever an exception stops it.

        Args:
            context: Told of progress; asked whether to stop.
            checkpoint: Called every `every_s`, to save the state while training goes on.
            hand_back: Called when the attempt is asked to stop; it raises.
            every_s: Seconds.
            clock: Seconds, monotonic.

        Raises:
            StageFailed: The loss is no longer a finite number.
        """
        began, before, said, saved = clock(), self.counters.elapsed_s, -math.inf, clock()
        while not self.counters.finished:
            loss = self._step()
            now = clock()
            self.counters.elapsed_s = before + now - began
            if now - said >= SAY_EVERY_S:
                said = now
                self._say(context, loss)
            if self.counters.step % self.evaluate_every == 0 or self._is_over():
                self._evaluate(context, loss)
            if self.counters.finished:
                break
            if context.stop_requested:
                hand_back(self)
            if now - saved >= every_s:
                checkpoint(self)
                saved = clock()
        self.model.load_state_dict(self.best)
        self.model.eval()

    def _step(self) -> float:
        done, first = self._done(), 1 / self.total_steps
        torch.manual_seed(_mixed(self.seed, self.counters.step))
        self.model.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.objective.loss(self.model, step=self.counters.step)
        value = loss.item()
        if not math.isfinite(value):
            raise errors.StageFailed(
                f"The loss became {value} at step {self.counters.step + 1} of {self.total_steps}.",
                remedy=f"Lower learning_rate (it is {self.recipe.learning_rate:g}), or lengthen warmup.",
                field="learning_rate",
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizers.step(
            scale=rate_scale(done, warmup=self.recipe.warmup, cooldown=self.recipe.cooldown, first=first)
        )
        self.counters.step += 1
        self._average()
        return value

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged is None:
            return
        step = self.counters.step
        decay = min(self.recipe.ema, step / (10 + step))  # short at first, or it would remember the initial weights
        old: list[torch.Tensor] = list(self.averaged.parameters())
        new: list[torch.Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(old, new, 1 - decay)

    def _done(self) -> float:
        """Share of training that is over: by steps, or by time once a limit binds."""
        by_steps, limit = self.counters.step / self.total_steps, self.recipe.max_seconds
        by_time = self.counters.elapsed_s / limit if limit else 0.0
        if by_time > TIME_GRACE and by_time > by_steps:
            self.counters.cut = True
            return min(by_time, 1.0)
        return by_steps

    def _is_over(self) -> bool:
        return self.counters.step >= self.total_steps or self._done() >= 1.0

    @torch.no_grad()
    def _evaluate(self, context: Context, train_loss: float) -> None:
        """Judge, keep the state if it is the best so far, and maybe stop."""
        c = self.counters
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            metrics = self.objective.evaluate(self.judged.eval())
        value = metrics[self.objective.primary]
        if not math.isfinite(value):
            raise errors.StageFailed(
                f"The validation {self.objective.primary} became {value} at step {c.step}.",
                remedy="Lower learning_rate.", field="learning_rate",
            )  # fmt: skip
        context.metric("train.loss", train_loss, step=c.step)
        for name, metric in metrics.items():
            context.metric(f"validation.{name}", metric, step=c.step)
        if self._is_better(value, metrics["loss"]):
            c.best_step, c.best_value, c.best_loss, c.waited = c.step, value, metrics["loss"], 0
            self.metrics = metrics
            self.best = {name: tensor.clone() for name, tensor in self.judged.state_dict().items()}
        else:
            c.waited += 1
        c.finished = self._is_over() or 0 < self.recipe.patience <= c.waited

    def _is_better(self, value: float, loss: float) -> bool:
        c = self.counters
        if c.best_step < 0:
            return True
        if self.recipe.choose_by == "metric" and value != c.best_value:
            return (value > c.best_value) == self.objective.higher_is_better
        return loss <= c.best_loss

    def _say(self, context: Context, loss: float) -> None:
        c = self.counters
        rate = c.step * self.objective.examples_per_step / max(c.elapsed_s, 1e-9)
        values: dict[str, float | str] = {"loss": round(loss, 4), "rate": f"{rate:,.0f} {self.objective.unit}/s"}
        if c.best_step >= 0:
            values[self.objective.primary] = round(c.best_value, 4)
        context.progress(self._done() * self.total_steps if c.cut else c.step, self.total_steps, unit="steps", **values)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs, by name; with `facts` it is the whole state."""
        parts = {"model": self.model.state_dict(), "best": self.best, "optimizer": self.optimizers.tensors()}
        if self.averaged is not None:
            parts["averaged"] = self.averaged.state_dict()
        return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}

    def facts(self) -> dict[str, Any]:
        counters = asdict(self.counters)
        if math.isnan(self.counters.best_value):  # JSON has neither NaN nor infinity
            counters |= {"best_value": None, "best_loss": None}
        return {"counters": counters, "metrics": self.metrics, "seed": self.seed, "bf16": self.bf16}

    def load(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Take over a saved state."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.model.load_state_dict(parts["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(parts["averaged"])
        self.optimizers.load(parts.get("optimizer", {}))
        self.best = parts["best"]
        counters = {k: v for k, v in facts["counters"].items() if v is not None}
        self.counters, self.metrics = Counters(**counters), dict(facts["metrics"])


def _mixed(seed: int, step: int) -> int:
    """One 63-bit seed of a pair; neighbouring steps get unrelated streams."""
    return (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) % 2**63
