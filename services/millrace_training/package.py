"""The trained model as an artifact: weights, program, featurizers, card and golden rows."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import torch

from millrace.architectures.base import Architecture
from millrace.contracts.artifacts import ArtifactRef
from millrace.models.featurizers import save_ops
from millrace.models.package import model_meta, package_files, program_at, write_golden, write_package
from millrace.models.predictor import load_predictor
from millrace.models.signature import Lineage, ModelCard, Signature
from millrace.runtime.stage import Context
from millrace_training.export import OPSET, export_onnx, tensor_specs
from millrace_training.problem import Problem

PROGRAM = "programs/fp32.onnx"


def store_model(context: Context, model: Architecture, problem: Problem, *, dataset: ArtifactRef) -> ArtifactRef:
    """Export, compare, answer the golden rows by the way that serving does, and store.

    Raises:
        StageFailed: The program's answers differ from the module's.
    """
    directory = context.workdir / "model"
    model = model.cpu().eval()
    difference = export_onnx(model, directory / PROGRAM, cases=problem.cases(model))
    context.log.info("program_exported", opset=OPSET, largest_difference=difference)
    card = _card(model, problem, directory, dataset=dataset, seed=context.seed)
    weights = {name: value.contiguous().numpy() for name, value in model.state_dict().items()}
    write_package(directory, card, weights=weights)
    predictor = load_predictor(directory, num_threads=context.num_threads)
    write_golden(directory, problem.golden, predictor.predict(problem.golden))
    return context.write_artifact("model", package_files(directory), meta=model_meta(card))


@torch.no_grad()
def _card(model: Architecture, problem: Problem, directory: Path, *, dataset: ArtifactRef, seed: int) -> ModelCard:
    inputs, outputs = tensor_specs(model)
    return ModelCard(
        task=problem.task, architecture=model.name,
        arguments=json.loads(model.arguments.to_json()), num_parameters=model.num_parameters(),
        flops_per_example=model.flops_per_example(),
        programs=(program_at(directory, PROGRAM, format="onnx", opset=OPSET),),
        # No run id: the same data, config and seed make the same bytes, whichever run they belong to.
        lineage=Lineage(dataset=dataset.digest, seed=seed, code_version=version("millrace")),
        signature=Signature(
            columns=problem.columns, outputs=problem.answers, program_inputs=inputs, program_outputs=outputs,
            featurizer=save_ops(problem.ops, directory),
        ),
    )  # fmt: skip
