"""Checkpoints: the resumable state of one training, as an artifact of tensors (safetensors) and facts (JSON).

They are stored beside the training: it waits while its tensors are copied, not while they are written.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import load_file, save_file

from millrace import errors
from millrace.contracts.base import digest_of
from millrace.runtime.stage import Artifact, Context
from millrace_training.loop import Trainer

TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A trainer's state at one step, which its next steps do not change."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    facts: bytes
    meta: Mapping[str, str | int]


class Checkpoints:
    """Stores a training's snapshots, one at a time; a store that is away costs a checkpoint, not the training."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writing: threading.Thread | None = None
        self._stale: errors.Stale | None = None

    def save(self, trainer: Trainer) -> None:
        """Begin to store the state as it is now; passed over while the one before is being written.

        Raises:
            Stale: Another attempt has this task by now.
        """
        self._raise_stale()
        if self._writing is None or not self._writing.is_alive():
            self._writing = threading.Thread(target=self._write, args=(snapshot(trainer),), name="checkpoint")
            self._writing.start()

    def hand_back(self, trainer: Trainer) -> NoReturn:
        """Store the state and end the attempt, for another to go on from here."""
        self.wait()
        taken = snapshot(trainer)
        self._context.log.info("training_handed_back", step=taken.step)
        self._context.hand_back(_files(self._context, taken), meta=taken.meta)

    def wait(self) -> None:
        """Wait until what was begun is stored. Raises Stale as `save` does."""
        if self._writing is not None:
            self._writing.join()
        self._raise_stale()

    def _write(self, taken: Snapshot) -> None:
        log = self._context.log
        try:
            ref = self._context.checkpoint(_files(self._context, taken), meta=taken.meta)
            log.info("checkpoint_stored", step=taken.step, digest=ref.digest, size_bytes=ref.size_bytes)
        except errors.Stale as error:
            self._stale = error
        except (errors.MillraceError, OSError) as error:
            log.warning("checkpoint_not_stored", step=taken.step, reason=str(error))

    def _raise_stale(self) -> None:
        if self._stale is not None:
            raise self._stale


@contextmanager
def storing_checkpoints(context: Context) -> Iterator[Checkpoints]:
    """Checkpoints for the length of a block, at whose end none is half under way."""
    checkpoints = Checkpoints(context)
    try:
        yield checkpoints
    finally:
        if checkpoints._writing is not None:
            checkpoints._writing.join()


def snapshot(trainer: Trainer) -> Snapshot:
    """Copy the state to host memory."""
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in trainer.tensors().items()}
    facts = {**trainer.facts(), "training": _identity(trainer)}
    meta: dict[str, str | int] = {
        "step": trainer.counters.step, "training": _identity(trainer), "precision": "bf16" if trainer.bf16 else "fp32",
    }  # fmt: skip
    encoded = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    return Snapshot(trainer.counters.step, tensors, encoded, meta)


def load_checkpoint(artifact: Artifact, trainer: Trainer) -> None:
    """Put a stored state into a trainer of the same training, which then continues bit for bit.

    Raises:
        InvalidData: The checkpoint is of another training: other architecture, recipe, seed or precision.
        NotFound, Corrupt, Unavailable: From the store.
    """
    if artifact.meta.get("training") != _identity(trainer):
        raise errors.InvalidData(
            f"Checkpoint {artifact.ref.digest[:12]} belongs to another training.",
            remedy="Resume with the architecture, recipe, seed and precision it was made with, or start anew.",
        )
    facts = json.loads(artifact.read(FACTS))
    trainer.load(load_file(artifact.file(TENSORS), device=str(trainer.device)), facts)


def resume(context: Context, earlier: Artifact | None, trainer: Trainer) -> None:
    """Go on from what an earlier attempt saved, if it is this training's and whole; else from the start."""
    if earlier is None:
        return
    try:
        load_checkpoint(earlier, trainer)
    except (errors.InvalidData, errors.NotFound, errors.Corrupt) as error:
        context.log.warning("training_starts_anew", reason=str(error))
        return
    context.log.info("training_resumed", step=trainer.counters.step)


def _files(context: Context, taken: Snapshot) -> dict[str, Path | bytes]:
    path = context.workdir / TENSORS
    save_file(dict(taken.tensors), path)
    return {TENSORS: path, FACTS: taken.facts}


def _identity(trainer: Trainer) -> str:
    recipe = trainer.recipe
    return digest_of({
        "architecture": recipe.architecture, "arguments": trainer.model.arguments.model_dump(mode="json"),
        "recipe": {name: getattr(recipe, name) for name in recipe.__slots__ if name != "arguments"},
        "seed": trainer.seed, "bf16": trainer.bf16,
    })  # fmt: skip
