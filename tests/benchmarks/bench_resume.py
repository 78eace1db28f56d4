"""Training that is killed again and again: whether it ends in the same bits, what is repeated, and what checkpoints cost.

Each attempt is a process that executes the train stage on one thread, and is killed at a random instant; the next one resumes
from what the last left in the store. Without a fork of a warm process most of the time would go to importing torch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
import torch

from benchmarks.harness import row, write_results
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.schema import Column, DatasetSchema, SplitName
from millrace.runtime.stage import local_context
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_training import stage
from millrace_training.settings import TrainConfig
from training_data import write_dataset

KILLS = 50
STEPS = 3000
EVERY_S = 0.5
OVERHEAD_STEPS, OVERHEAD_EVERY_S, OVERHEAD_PAIRS = 4000, 5.0, 5
"""The stall is measured with five seconds between checkpoints, twelve times as often as by default."""

MODEL = {"architecture": "mlp@1", "arguments": {"width": 512, "depth": 3}, "batch_size": 64, "precision": "fp32"}


def make_dataset(store: Store) -> ArtifactRef:
    """Sixteen numbers a row; the answer is whether a random two-layer function of them is positive."""
    random_ = np.random.default_rng(0)
    names = [f"x{i}" for i in range(16)]
    weights = random_.normal(size=(16, 8))
    columns = (*(Column(name=n, type="number") for n in names),
               Column(name="y", type="category", role="target", vocabulary=("low", "high")))  # fmt: skip
    splits: dict[SplitName, pa.Table] = {}
    for split, rows in (("train", 20_000), ("validation", 500), ("test", 100)):
        x = random_.normal(size=(rows, 16))
        y = np.where(np.tanh(x @ weights).sum(1) > 0, "high", "low")
        splits[split] = pa.table({**{n: x[:, i] for i, n in enumerate(names)}, "y": y})  # type: ignore[index]
    return write_dataset(store, DatasetSchema(task="tabular_classification", columns=columns), splits)


def attempt(home: Path, dataset: ArtifactRef, name: str, fence: int, steps: int, every_s: float, notes: Path) -> None:
    """Execute one attempt; note where it began, how far it came, and the model it made."""
    torch.set_num_threads(1)
    store = open_store(Settings(home=home))
    with local_context(store, home / "scratch", seed=1, stage=name, fence=fence) as context, notes.open("a") as out:

        def say(**values: Any) -> None:
            out.write(json.dumps({"fence": fence, **values}) + "\n")
            out.flush()

        def sink(kind: str, payload: Mapping[str, Any]) -> None:
            if kind == "progress":
                say(step=payload["done"], at=time.monotonic())

        earlier = context.resumed()
        say(begin=earlier.meta["step"] if earlier else 0)
        config = TrainConfig.model_validate({**MODEL, "steps": steps, "checkpoint_every_s": every_s})
        began = time.monotonic()
        inputs = {"dataset": context.open_artifact(dataset)}
        made = stage.work(replace(context, num_threads=1, sink=sink), config, inputs, {})
        say(model=made.artifacts["model"].digest, seconds=made.summary["seconds"], wall_s=time.monotonic() - began)


def in_process(*arguments: Any, kill_after_s: float | None = None) -> None:
    """Execute an attempt in a fork of this process, and maybe kill it."""
    process = multiprocessing.get_context("fork").Process(target=attempt, args=arguments)
    process.start()
    process.join(kill_after_s)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def told(notes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def killed_training(
    home: Path, dataset: ArtifactRef, *, whole_s: float, wanted: int, seed: int
) -> tuple[str, int, list[float]]:
    """(digest of the model, kills, steps repeated after each) of a training that is killed until it is over."""
    rng, fence, kills, name = random.Random(seed), 0, 0, f"killed{seed}"
    notes = home / f"{name}.jsonl"
    while not any("model" in note for note in told(notes)):
        fence += 1
        spared = kills >= wanted
        in_process(
            home,
            dataset,
            name,
            fence,
            STEPS,
            EVERY_S,
            notes,
            kill_after_s=None if spared else rng.uniform(0.1, whole_s / 5),
        )
        kills += not any("model" in note for note in told(notes))
    said = told(notes)
    reached = {
        n: max((s["step"] for s in said if s["fence"] == n and "step" in s), default=None) for n in range(1, fence)
    }
    begins = {s["fence"]: s["begin"] for s in said if "begin" in s}
    repeated = [reached[n] - begins[n + 1] for n in range(1, fence) if reached[n] is not None and n + 1 in begins]
    return next(s["model"] for s in said if "model" in s), kills, repeated


def uninterrupted(home: Path, dataset: ArtifactRef, name: str, steps: int, every_s: float) -> dict[str, Any]:
    notes = home / f"{name}.jsonl"
    in_process(home, dataset, name, 1, steps, every_s, notes)
    return next(note for note in told(notes) if "model" in note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--pairs", type=int, default=OVERHEAD_PAIRS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "scratch").mkdir()
        dataset = make_dataset(open_store(Settings(home=home)))
        whole = uninterrupted(home, dataset, "whole", STEPS, 1e9)
        digest, kills, repeated = killed_training(
            home, dataset, whole_s=whole["seconds"], wanted=arguments.kills, seed=arguments.seed
        )
        step_s = whole["seconds"] / STEPS
        pairs = []
        for number in range(arguments.pairs):  # interleaved, so that both meet the same noise
            without = uninterrupted(home, dataset, f"without{number}", OVERHEAD_STEPS, 1e9)["seconds"]
            with_ = uninterrupted(home, dataset, f"with{number}", OVERHEAD_STEPS, OVERHEAD_EVERY_S)["seconds"]
            pairs.append(100 * (with_ / without - 1))
    write_results(
        "resume",
        [
            row("killed_training", "kills", "count", [kills]),
            row("killed_training", "weights_identical", "share", [float(digest == whole["model"])]),
            row("killed_training", "repeated", "s", [r * step_s for r in repeated]),
            row("killed_training", "checkpoint_interval", "s", [EVERY_S]),
            row("checkpoints", "slowdown", "%", pairs),
            row("checkpoints", "checkpoint_interval", "s", [OVERHEAD_EVERY_S]),
        ],
    )


if __name__ == "__main__":
    main()
