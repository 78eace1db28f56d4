"""What every round is given, and the shelf on which one round leaves files for the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import SecretStr

from millrace.contracts.artifacts import FileEntry
from millrace.runtime.stage import Artifact, Context
from millrace.store.artifacts import media_type
from millrace_cleaning.read import Files
from millrace_cleaning.settings import CleanConfig


class Shelf(Protocol):
    """Keeps files between rounds under names that fit in a task."""

    def put(self, path: Path) -> str:
        """Keep a file, which may be moved away; return its name."""

    def put_bytes(self, data: bytes) -> str: ...

    def get(self, name: str) -> Path:
        """A local copy, not to be written to."""

    def entry(self, name: str, path: str) -> FileEntry | Path:
        """What a manifest says of the file under this path."""


@dataclass(frozen=True, slots=True)
class StoreShelf:
    """Keeps files in the store, where any worker finds them by their digest."""

    context: Context

    def put(self, path: Path) -> str:
        name = self.context.store.put_file(path)[0]
        path.unlink()
        return name

    def put_bytes(self, data: bytes) -> str:
        return self.context.store.put_bytes(data)

    def get(self, name: str) -> Path:
        return self.context.cache.file(self.context.store, name)

    def entry(self, name: str, path: str) -> FileEntry | Path:
        size = self.context.store.size(name)
        return FileEntry(path=path, digest=name, size_bytes=size, media_type=media_type(path))


@dataclass(frozen=True, slots=True)
class LocalShelf:
    """Keeps files in a directory, for rounds that all run in one attempt: nothing is uploaded in between."""

    root: Path
    numbers: Iterator[int] = field(default_factory=count)

    def put(self, path: Path) -> str:
        name = self._next()
        path.rename(self.root / name)
        return name

    def put_bytes(self, data: bytes) -> str:
        name = self._next()
        (self.root / name).write_bytes(data)
        return name

    def get(self, name: str) -> Path:
        return self.root / name

    def entry(self, name: str, path: str) -> FileEntry | Path:  # noqa: ARG002  # a manifest takes local files as they are
        return self.root / name

    def _next(self) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        return f"{next(self.numbers):06d}"


Report = Callable[[int, int, str], None]
"""Takes how many rows of a task are done, of how many, and what is done."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt's view of the stage.

    Attributes:
        root: Where files are made before they are shelved.
        seed: Of the run.
        pii_key: The worker's key of reversible tokens; empty: it has none.
        report: Tells how many rows of a task are done.
    """

    config: CleanConfig
    source: Artifact
    files: Files
    shelf: Shelf
    root: Path
    seed: int
    report: Report
    log: structlog.stdlib.BoundLogger
    pii_key: SecretStr

    @property
    def row_prefix(self) -> str:
        """What every row id begins with: the first 16 hex digits of the source's digest."""
        return self.source.ref.digest[:16]

    @property
    def split_seed(self) -> int:
        return self.seed if self.config.split.seed is None else self.config.split.seed

    def note(self, value: Any) -> str:
        """Shelve a JSON value; return its name."""
        return self.shelf.put_bytes(json.dumps(value, separators=(",", ":")).encode())

    def read(self, name: str) -> Any:
        """What was noted under a name."""
        return json.loads(self.shelf.get(name).read_bytes())

    def path(self, name: str) -> Path:
        """Where a file of this name may be made; it is to be shelved before another is made under it."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / name


def open_job(context: Context, config: CleanConfig, source: Artifact, *, shelf: Shelf, report: Report | None) -> Job:
    """The job of an attempt; without a report, rows done go to the context's progress."""
    return Job(
        config=config, source=source, files=Files.of(source.manifest.files, source.file), shelf=shelf,
        root=context.workdir / "made", seed=context.seed, report=report or _reporter(context), log=context.log,
        pii_key=context.secrets.get("pii_key", SecretStr("")),
    )  # fmt: skip


def _reporter(context: Context) -> Report:
    def report(done: int, total: int, step: str) -> None:
        context.progress(done, max(done, total), unit="rows", step=step)

    return report
