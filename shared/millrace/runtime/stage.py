"""What a stage's code sees: a Context, its Inputs, and the functions it may define.

A stage module defines `work`, and may define `plan` and `merge`:

    def plan(context: Context, config: Config, inputs: Inputs) -> Sequence[Task]
    def work(context: Context, config: Config, inputs: Inputs, task: Task) -> Result | StageOutputs
    def merge(context: Context, config: Config, inputs: Inputs, results: Results) -> StageOutputs | NextPlan

`plan` defaults to one empty task. Without `merge`, the one task's `work` answers StageOutputs. A Result is a JSON object of
at most 4 KiB; whatever is larger goes into the store, and the result names its digest. `results` is an iterable in task order.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import structlog
from pydantic import SecretStr

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest
from millrace.contracts.events import StageOutputs, Verdict
from millrace.contracts.ids import new_id
from millrace.runtime.fetched import FetchCache
from millrace.runtime.heads import TaskHead
from millrace.store import Store
from millrace.store.artifacts import read_manifest, write_manifest

Task = dict[str, Any]
Result = dict[str, Any]
Results = Iterable[Result]

MAX_RESULT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class NextPlan:
    """What `merge` answers when another round of tasks is needed."""

    tasks: Sequence[Task]


class ProgressSink(Protocol):
    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None: ...


class StopSign(Protocol):
    """Says whether an attempt is asked to stop. A `threading.Event` is one."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Artifact:
    """An input that was handed to the stage: its reference and its manifest, files fetched when asked for."""

    ref: ArtifactRef
    manifest: Manifest
    store: Store
    cache: FetchCache

    @property
    def meta(self) -> dict[str, Any]:
        return self.manifest.meta

    def entry(self, path: str) -> FileEntry:
        for entry in self.manifest.files:
            if entry.path == path:
                return entry
        known = [f.path for f in self.manifest.files[:200]]
        raise errors.NotFound(f"Artifact {self.ref.digest[:12]} has no file {path!r}; {errors.nearest(path, known)}")

    def read(self, path: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        return self.store.get_bytes(self.entry(path).digest, max_bytes=max_bytes)

    def file(self, path: str) -> Path:
        """A local, verified, read-only copy of one file; shared by attempts on this host."""
        entry = self.entry(path)
        return self.cache.file(self.store, entry.digest, size_bytes=entry.size_bytes, suffix=Path(path).suffix)

    def directory(self) -> Path:
        """A local directory with every file under its manifest path (hard links into the cache)."""
        return self.cache.tree(self.store, self.ref.digest, self.manifest)


class HandedBack(BaseException):
    """Ends an attempt that gives its task back, through whatever the stage's code catches."""


Inputs = Mapping[str, Any]
"""Artifact by port; a tuple of them where the port is `many`; an unbound optional port is absent."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime gives to a stage's code.

    Attributes:
        store: Where outputs go.
        workdir: An empty directory, removed after the attempt.
        cache: What this host has fetched; a file that an attempt asked for stays until it ends.
        seed: Of the run; equal seeds and inputs give equal bytes on equal CPUs.
        device: `cpu` or `cuda:0`.
        num_threads: How many threads the attempt may use.
        log: structlog logger with run, stage, task and attempt bound.
        head: Where checkpoints are named.
        stop: Set when the attempt is asked to stop.
        earlier: The checkpoint that an earlier attempt of the task left.
        secrets: Of the worker's settings, those that stages need, by name. A function of the user's gets none.
    """

    store: Store
    workdir: Path
    cache: FetchCache
    run_id: str
    stage: str
    attempt_id: str
    fence: int
    seed: int
    device: str
    num_threads: int
    log: structlog.stdlib.BoundLogger
    sink: ProgressSink
    head: TaskHead
    outputs: Mapping[str, ArtifactType] = field(default_factory=dict)
    stop: StopSign = field(default_factory=threading.Event)
    earlier: ArtifactRef | None = None
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)

    def progress(self, done: float, total: float, *, unit: str = "", **values: float | str) -> None:
        """Report progress: how much of how many units is done, and values to show, such as `loss=0.31`.

        Transient: the latest one wins. Cheap to call often; the parent forwards at most ten a second.
        """
        self.sink("progress", {"done": done, "total": total, "unit": unit, "values": values})

    def metric(self, name: str, value: float, *, step: int) -> None:
        """Report one point of a curve, such as the validation loss at a step."""
        self.sink("metric", {"name": name, "value": value, "step": step})

    def write_artifact(
        self,
        type: ArtifactType,
        files: Mapping[str, Path | bytes | FileEntry],
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtifactRef:
        """Store files (manifest path -> local path, bytes, or the entry of a blob that is stored already), blobs first,
        manifest last; return the reference."""
        return write_manifest(self.store, type, files, meta=meta or {})

    @property
    def stop_requested(self) -> bool:
        """Whether the attempt is asked to stop: its worker drains, its run is paused, or its soft time limit has passed.

        A stage that looks at this between steps, and then calls `hand_back`, loses nothing; others are killed later.
        """
        return self.stop.is_set()

    def checkpoint(self, files: Mapping[str, Path | bytes], *, meta: Mapping[str, Any] | None = None) -> ArtifactRef:
        """Save where this attempt has come to: the next one, on any worker, finds it whole, or the one before it.

        Raises:
            Stale: Another attempt has the task by now. Let it pass: this attempt ends, and nothing is said of it.
        """
        saved = self.write_artifact("checkpoint", files, meta=meta)
        self.head.save_checkpoint(saved)
        return saved

    def resumed(self) -> Artifact | None:
        """The last checkpoint that an earlier attempt of this task saved; None if there is none to go on from."""
        if self.earlier is None:
            return None
        try:
            return self.open_artifact(self.earlier)
        except (errors.NotFound, errors.Corrupt) as error:
            self.log.warning("checkpoint_unreadable", reason=str(error))
            return None

    def hand_back(
        self, files: Mapping[str, Path | bytes] | None = None, *, meta: Mapping[str, Any] | None = None
    ) -> NoReturn:
        """End this attempt here, for another to go on; with files, save them as a checkpoint first. Does not return."""
        if files is not None:
            self.checkpoint(files, meta=meta)
        raise HandedBack

    def open_artifact(self, ref: ArtifactRef) -> Artifact:
        """An artifact by its reference, its manifest read. Raises NotFound or Corrupt if that is not there whole."""
        try:
            manifest = read_manifest(self.store, ref.digest)
        except (errors.NotFound, errors.Corrupt) as error:
            error.context.setdefault("artifact", ref.digest)
            raise
        return Artifact(ref=ref, manifest=manifest, store=self.store, cache=self.cache)


def outputs(
    artifacts: Mapping[str, ArtifactRef],
    *,
    summary: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    verdict: Verdict | None = None,
) -> StageOutputs:
    """The end of a stage: its artifacts by port, and a small summary for people."""
    return StageOutputs(
        artifacts=dict(artifacts), summary=dict(summary or {}), metrics=dict(metrics or {}), verdict=verdict
    )


@contextmanager
def local_context(
    store: Store,
    root: Path,
    *,
    seed: int = 0,
    stage: str = "stage",
    fence: int = 1,
    stop: StopSign | None = None,
    secrets: Mapping[str, SecretStr] | None = None,
) -> Iterator[Context]:
    """A context without a worker: for tests of a stage's code, and for notebooks.

    Args:
        store: Where artifacts and checkpoints go.
        root: Where the working directory is made.
        seed: Of the run.
        stage: Its name.
        fence: The attempt's number. A second attempt resumes from what the first one of this stage left in the store.
        stop: What asks the attempt to stop.
        secrets: What a worker's settings would give.
    """
    root.mkdir(parents=True, exist_ok=True)
    attempt_id = f"run_local.{stage}.plan.0.{fence}"
    head = TaskHead(store, f"tasks/run_local/{stage}/plan0/0", attempt_id=attempt_id, fence=fence, nonce=new_id("del"))
    earlier = head.seal().checkpoint if fence > 1 else None
    with tempfile.TemporaryDirectory(dir=root) as workdir, closing(FetchCache(root / "cache")) as cache:
        yield Context(
            store=store, workdir=Path(workdir), cache=cache, run_id="run_local", stage=stage, attempt_id=attempt_id,
            fence=fence, seed=seed, device="cpu", num_threads=os.cpu_count() or 1, log=structlog.get_logger(),
            sink=_ignore, head=head, stop=stop or threading.Event(), earlier=earlier,
            secrets=secrets or {},
        )  # fmt: skip


def _ignore(kind: str, payload: Mapping[str, Any]) -> None:
    """A sink for contexts that nobody watches."""
