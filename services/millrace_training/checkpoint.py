"""Checkpoints: the resumable state of one training, as an artifact of tensors (safetensors) and facts (JSON)."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import digest_of
from millrace.runtime.stage import Context
from millrace_training.loop import Trainer

TENSORS, FACTS = "state.safetensors", "state.json"


def save_checkpoint(context: Context, trainer: Trainer) -> ArtifactRef:
    """Store the state; blobs first and the manifest last, so a half-written one is never found."""
    path = context.workdir / TENSORS
    save_file({name: value.contiguous().cpu() for name, value in trainer.tensors().items()}, path)
    facts = {**trainer.facts(), "training": _identity(trainer)}
    files: dict[str, Path | bytes] = {TENSORS: path, FACTS: json.dumps(facts, sort_keys=True, allow_nan=False).encode()}
    step = trainer.counters.step
    ref = context.write_artifact("checkpoint", files, meta={"step": step, "training": _identity(trainer)})
    context.log.info("checkpoint_stored", step=step, digest=ref.digest, size_bytes=ref.size_bytes)
    return ref


def load_checkpoint(context: Context, ref: ArtifactRef, trainer: Trainer) -> None:
    """Put a stored state into a trainer of the same training, which then continues bit for bit.

    Raises:
        InvalidData: The checkpoint is of another training: other architecture, recipe, seed or precision.
        NotFound, Corrupt, Unavailable: From the store.
    """
    artifact = context.open_artifact(ref)
    if artifact.meta.get("training") != _identity(trainer):
        raise errors.InvalidData(
            f"Checkpoint {ref.digest[:12]} belongs to another training.",
            remedy="Resume with the architecture, recipe, seed and precision it was made with, or start anew.",
        )
    facts = json.loads(artifact.read(FACTS))
    trainer.load(load_file(artifact.file(TENSORS), device=str(trainer.device)), facts)


def _identity(trainer: Trainer) -> str:
    recipe = trainer.recipe
    return digest_of({
        "architecture": recipe.architecture, "arguments": trainer.model.arguments.model_dump(mode="json"),
        "recipe": {name: getattr(recipe, name) for name in recipe.__slots__ if name != "arguments"},
        "seed": trainer.seed, "bf16": trainer.bf16,
    })  # fmt: skip
