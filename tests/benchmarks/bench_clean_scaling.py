"""Cleaning on one and two workers, over sources of growing size, and while attempts are killed.

python -m benchmarks.bench_clean_scaling [speed_up] [memory] [kills] [--sizes-mb 100 500 5000] [--format parquet]

speed_up: the second size on 1 and 2 workers of one thread each, as many bare processes beside them: those execute the same
plan, work and merge in a pool over a directory, with no broker, ledger or worker. The wall is of the clean stage alone.
memory: the most that all processes of the factory hold together, and the most that the attempts hold, by size.
kills: 200 shards are cleaned in peace, and again while attempts and workers are killed at random; the outputs' digests are
compared. At full size the cases take about 6, 20 and 4 minutes on two cores, and need five times the largest size of disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from benchmarks.factories import embedded
from benchmarks.harness import Row, print_rows, row, update_results
from chaos import victims
from millrace import Pipeline
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import NextPlan, local_context
from millrace.settings import Settings
from millrace.store.artifacts import write_manifest
from millrace.store.connect import open_store
from millrace.testing.factory import Factory
from millrace_cleaning import stage
from millrace_cleaning.settings import CleanConfig

SIZES_MB = (100, 500, 5000)
FILE_MB = 50
NUM_SHARDS, SHARD_MB = 200, 0.5
NUM_KILLS = 60
PAUSE_S = (0.1, 2.5)
LOOK_S = 0.25
LIMIT_S = 3600.0
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""One thread an attempt; Arrow's pool, too, is as large as OMP_NUM_THREADS says."""
CONFIG: dict[str, Any] = {
    "features": ["text"], "dedup": True, "bytes_per_task": 16 * 2**20, "rows_per_shard": 16_384,
    "steps": [{"step": "repair_text"}, {"step": "gopher_quality"}, {"step": "c4_quality"}],
}  # fmt: skip
PATIENT = {"max_attempts": 20, "max_losses": 100, "backoff_s": 0.1}


# --- data ------------------------------------------------------------------------------------------------------------


@cache
def sentences() -> list[str]:
    """Thirty thousand sentences of made-up words, some of which are common."""
    rng = np.random.default_rng(0)
    letters = np.array(list("aaabcdeeeefghiiijklmnooopqrsttuvwxyz"))
    words = np.array(
        ["".join(rng.choice(letters, n)) for n in rng.integers(2, 11, 10_000)] + ["the", "and", "of"] * 450
    )
    lengths = rng.integers(6, 18, 30_000)
    chosen = np.split(words[rng.integers(0, len(words), lengths.sum())], np.cumsum(lengths)[:-1])
    return [" ".join(found).capitalize() + ".\n" for found in chosen]


def documents(size_bytes: float, *, seed: int) -> Iterator[list[str]]:
    """Lists of texts of about 4 kB; one in twenty is there twice."""
    rng, known, left = np.random.default_rng(seed), sentences(), size_bytes
    while left > 0:
        texts = ["".join(known[i] for i in rows) for rows in rng.integers(0, len(known), (500, 55)).tolist()]
        texts[::20] = texts[1::20]
        left -= sum(map(len, texts))
        yield texts


def make_source(root: Path, *, files: int, file_mb: float, form: str) -> Path:
    """Write a source of so many files of so many MB of text, on all cores: one core writes 50 MB a second."""
    root.mkdir(parents=True)
    with multiprocessing.get_context("spawn").Pool() as pool:
        pool.map(partial(_make_file, root, file_mb=file_mb, form=form), range(files), chunksize=1)
    return root


def _make_file(root: Path, number: int, *, file_mb: float, form: str) -> None:
    path = root / f"part-{number:04d}.{form}"
    batches = documents(file_mb * 1e6, seed=number)
    if form == "jsonl":
        with path.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for texts in batches for text in texts)
        return
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="zstd") as writer:
        for texts in batches:
            writer.write_table(pa.table({"text": texts}))


# --- Millrace --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a clean in a factory took and made."""

    wall_s: float
    factory_mb: float
    attempts_mb: float
    digests: dict[str, str]
    num_tasks: int
    attempts: int


def pipeline(source: Path) -> Pipeline:
    clean = {"kind": "clean", "with": CONFIG, "env": THREADS, "retry": PATIENT, "cache": False}
    stages = {"ingest": {"kind": "ingest", "with": {"uri": str(source)}}, "clean": clean}
    return Pipeline.from_dict({"api": "millrace/v1", "name": "clean_scaling", "stages": stages})


class Memory(threading.Thread):
    """The most that the processes of a factory hold, looked at four times a second; shared pages are divided."""

    def __init__(self, factory: Factory) -> None:
        super().__init__(daemon=True)
        self.factory_mb = self.attempts_mb = 0.0
        self._root = factory.pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            held = list(self._held())
            self.factory_mb = max(self.factory_mb, sum(size for _, size in held) / 1e6)
            self.attempts_mb = max(self.attempts_mb, sum(size for kind, size in held if kind == "child") / 1e6)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _held(self) -> Iterator[tuple[str, int]]:
        root = psutil.Process(self._root)
        for process in [root, *root.children(recursive=True)]:
            try:
                yield victims.kind_of(process.pid), process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue


def clean(
    source: Path, *, workers: int, meanwhile: Callable[[Factory, threading.Event], None] | None = None
) -> Cleaned:
    """Clean a source in a factory of its own; `meanwhile` does something to it until the event is set."""
    with embedded(MILLRACE_SLOTS=str(workers), **THREADS) as factory:
        memory, over = Memory(factory), threading.Event()
        memory.start()
        others = threading.Thread(target=meanwhile or _nothing, args=(factory, over), daemon=True)
        others.start()
        try:
            view = factory.client.submit(pipeline(source)).wait(timeout_s=LIMIT_S)
        finally:
            over.set()
            others.join()
            memory.stop()
        made = next(s for s in view.stages if s.name == "clean")
        assert made.outputs is not None
        assert made.started_at is not None
        assert made.finished_at is not None
        return Cleaned(
            wall_s=(made.finished_at - made.started_at).total_seconds(), factory_mb=memory.factory_mb,
            attempts_mb=memory.attempts_mb, num_tasks=made.num_tasks, attempts=made.attempts,
            digests={port: ref.digest for port, ref in made.outputs.artifacts.items()},
        )  # fmt: skip


def _nothing(factory: Factory, over: threading.Event) -> None:
    """The factory is left in peace."""


def kill_at_random(factory: Factory, over: threading.Event, *, seed: int, count: int, killed: list[str]) -> None:
    """Kill attempts, and now and then their worker, at random instants while attempts are under way."""
    rng = random.Random(seed)
    while len(killed) < count and not over.wait(rng.uniform(*PAUSE_S)):
        if victims.find([factory.pid]).get("child"):
            found = victims.draw([factory.pid], rng, among=["child"] if rng.random() < 0.9 else ["worker"])
            if found is not None and victims.send(found[1], signal.SIGKILL):
                killed.append(found[0])


# --- bare processes --------------------------------------------------------------------------------------------------


def bare_task(home: Path, source: ArtifactRef, task: dict[str, Any]) -> dict[str, Any] | StageOutputs:
    """Execute a task of the clean stage in this process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    name = multiprocessing.current_process().name
    with local_context(open_store(Settings(home=home)), home / name) as context:
        inputs = {"raw": context.open_artifact(source)}
        return stage.work(context, CleanConfig.model_validate(CONFIG), inputs, task)


def bare(source: Path, *, workers: int) -> tuple[float, str]:
    """(seconds, digest of the data set) of a clean by a pool of processes over a directory."""
    os.environ.update(THREADS)  # which the pool's processes read when they start
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(workers) as pool:
        home = Path(folder)
        store = open_store(Settings(home=home))
        ref = write_manifest(store, "source", {p.name: p for p in sorted(source.iterdir())}, meta={})
        pool.map(_warm, range(workers))
        begin = time.perf_counter()
        with local_context(store, home / "merging") as context:
            config, inputs = CleanConfig.model_validate(CONFIG), {"raw": context.open_artifact(ref)}
            tasks: Sequence[dict[str, Any]] = stage.plan(context, config, inputs)
            while True:
                results = pool.map(partial(bare_task, home, ref), tasks, chunksize=1)
                if isinstance(results[0], StageOutputs):
                    made = results[0]
                    break
                merged = stage.merge(context, config, inputs, [r for r in results if isinstance(r, dict)])
                if not isinstance(merged, NextPlan):
                    made = merged
                    break
                tasks = merged.tasks
        return time.perf_counter() - begin, made.artifacts["dataset"].digest


def _warm(number: int) -> int:
    """Import what the stage imports, so that it is not measured."""
    CleanConfig.model_validate(CONFIG)
    return number


# --- the cases -------------------------------------------------------------------------------------------------------


def speed_up(root: Path, arguments: argparse.Namespace) -> list[Row]:
    size = arguments.sizes_mb[min(1, len(arguments.sizes_mb) - 1)]
    source = _sized(root, size, arguments)
    bare(_sized(root, 1, arguments), workers=1)  # compiles what is compiled once
    case, rows, walls, digests = f"speed_up_{size:g}mb", [], dict[str, float](), set[str]()
    for workers in (1, 2):
        made = clean(source, workers=workers)
        alone_s, digest = bare(source, workers=workers)
        digests |= {digest, made.digests["dataset"]}
        walls |= {f"millrace {workers}": made.wall_s, f"bare {workers}": alone_s}
    for subject in ("millrace", "bare"):
        rows += [row(case, f"wall_{n}", "s", [walls[f"{subject} {n}"]], subject=subject) for n in (1, 2)]
        rows.append(row(case, "speed_up", "1", [walls[f"{subject} 1"] / walls[f"{subject} 2"]], subject=subject))
        rows.append(row(case, "mb_per_s_2", "MB/s", [size / walls[f"{subject} 2"]], subject=subject))
    return [*rows, row(case, "distinct_outputs", "1", [len(digests)])]


def memory(root: Path, arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for size in arguments.sizes_mb:
        source = _sized(root, size, arguments)
        made = clean(source, workers=2)
        shutil.rmtree(source)  # the largest takes as much disk again in the factory's home
        case = f"memory_{size:g}mb"
        rows += [
            row(case, "wall_2", "s", [made.wall_s]), row(case, "peak_pss_factory", "MB", [made.factory_mb]),
            row(case, "peak_pss_attempts", "MB", [made.attempts_mb]),
        ]  # fmt: skip
    return rows


def kills(root: Path, arguments: argparse.Namespace) -> list[Row]:
    source = make_source(root / "shards", files=arguments.shards, file_mb=SHARD_MB, form=arguments.format)
    calm = clean(source, workers=2)
    killed: list[str] = []
    storm = partial(kill_at_random, seed=arguments.seed, count=arguments.kills, killed=killed)
    made = clean(source, workers=2, meanwhile=storm)
    case = f"kills_{arguments.shards}_shards"
    return [
        row(case, "killed", "1", [len(killed)]), row(case, "killed_workers", "1", [killed.count("worker")]),
        row(case, "attempts_beyond_tasks", "1", [made.attempts - calm.attempts]),
        row(case, "wall", "s", [made.wall_s]), row(case, "wall", "s", [calm.wall_s], subject="undisturbed"),
        row(case, "outputs_identical", "1", [float(made.digests == calm.digests)]),
    ]  # fmt: skip


def _sized(root: Path, size_mb: float, arguments: argparse.Namespace) -> Path:
    """A source of this size, made once."""
    target = root / f"{size_mb:g}mb"
    files = max(1, round(size_mb / FILE_MB))
    if not target.exists():
        make_source(target, files=files, file_mb=size_mb / files, form=arguments.format)
    return target


CASES: dict[str, Callable[[Path, argparse.Namespace], list[Row]]] = {
    "speed_up": speed_up, "memory": memory, "kills": kills,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--sizes-mb", type=float, nargs="+", default=SIZES_MB)
    parser.add_argument("--format", choices=("parquet", "jsonl"), default="parquet")
    parser.add_argument("--shards", type=int, default=NUM_SHARDS)
    parser.add_argument("--kills", type=int, default=NUM_KILLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--try", dest="is_try", action="store_true", help="Print the rows, and keep the results file.")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.cases:
            rows += CASES[name](Path(folder), arguments)
            if arguments.is_try:
                print_rows(rows)
            else:
                update_results("clean_scaling", rows)


if __name__ == "__main__":
    main()
