"""`train`: a data set in, a model package out.

Learns from the train split, chooses by the validation split, and never opens the test split.
"""

from __future__ import annotations

from typing import Any

import torch

from millrace import errors
from millrace.architectures.arguments import parse_arguments
from millrace.architectures.registry import build, outline
from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Context, Inputs, Task, outputs
from millrace_training.checkpoint import resume, storing_checkpoints
from millrace_training.data import open_dataset
from millrace_training.features import choose_task
from millrace_training.loop import Trainer
from millrace_training.memory import check_fits
from millrace_training.package import store_model
from millrace_training.precision import Precision, choose_precision
from millrace_training.problem import Problem, prepare
from millrace_training.recipes import RECIPES, Recipe
from millrace_training.settings import TrainConfig, check_arguments
from millrace_training.threads import worthwhile_threads


def work(context: Context, config: TrainConfig, inputs: Inputs, task: Task) -> StageOutputs:
    """Prepare, build, train, package."""
    del task
    device = torch.device(context.device)
    torch.set_num_threads(context.num_threads)
    dataset = open_dataset(inputs["dataset"])
    kind = choose_task(config.task, dataset.meta.schema_)
    recipe = _recipe(config, kind)
    problem = prepare(dataset, kind, recipe, context.workdir, seed=context.seed, device=device)
    arguments = parse_arguments(recipe.architecture, {**recipe.arguments, **problem.bound})
    check_fits(outline(recipe.architecture, arguments), batch_size=recipe.batch_size, device=device)

    torch.manual_seed(context.seed)
    model = build(recipe.architecture, arguments)
    problem.prime(model)
    model.to(device)
    torch.set_num_threads(worthwhile_threads(model, problem.objective, at_most=context.num_threads))
    earlier = context.resumed()
    asked = earlier.meta.get("precision", config.precision) if earlier else config.precision
    precision = choose_precision(asked, model, problem.objective, device=device)
    bf16 = precision.name == "bf16"
    trainer = Trainer(model, problem.objective, recipe, seed=context.seed, bf16=bf16, device=device)
    resume(context, earlier, trainer)
    context.log.info("training_started", architecture=recipe.architecture, parameters=model.num_parameters(),
                     steps=trainer.total_steps, precision=precision.name)  # fmt: skip
    try:
        with storing_checkpoints(context) as checkpoints:
            trainer.run(
                context, checkpoint=checkpoints.save, hand_back=checkpoints.hand_back, every_s=config.checkpoint_every_s
            )
            checkpoints.wait()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise errors.ResourceExhausted(
            f"Memory ran out at batch size {recipe.batch_size} on {context.device}.",
            remedy="Lower batch_size, or make the model smaller.", field="batch_size",
        ) from error  # fmt: skip

    problem.finish(model)
    ref = store_model(context, model, problem, dataset=inputs["dataset"].ref)
    return outputs(
        {"model": ref},
        summary=_summary(trainer, problem, recipe, precision, context.device),
        metrics={f"validation.{name}": value for name, value in trainer.metrics.items()},
    )


def _recipe(config: TrainConfig, task: str) -> Recipe:
    """The task's recipe under the config; the data set may have named the task, so its arguments are checked here."""
    recipe = config.recipe(task)
    if recipe.architecture != RECIPES[task].architecture:
        raise errors.InvalidSpec(
            f"{recipe.architecture} does not read {task}.", field="architecture",
            remedy=f"Use {RECIPES[task].architecture}, or leave `architecture` out.",
        )  # fmt: skip
    try:
        check_arguments(recipe.architecture, dict(recipe.arguments))
    except ValueError as error:
        raise errors.InvalidSpec(str(error)) from None  # its text starts with the argument
    return recipe


def _summary(trainer: Trainer, problem: Problem, recipe: Recipe, precision: Precision, device: str) -> dict[str, Any]:
    counters = trainer.counters
    summary: dict[str, Any] = {
        "task": problem.task, "architecture": recipe.architecture, "num_parameters": trainer.model.num_parameters(),
        "epochs": round(counters.step / trainer.objective.steps_per_epoch, 2), "steps": counters.step,
        "best_step": counters.best_step, "seconds": round(counters.elapsed_s, 2), "cut_by_time": counters.cut,
        "validation": trainer.metrics, "device": device, "precision": precision.name,
    }  # fmt: skip
    if precision.fp32_s:
        summary["precision_measured"] = {"fp32_step_s": precision.fp32_s, "bf16_step_s": precision.bf16_s}
    return summary
