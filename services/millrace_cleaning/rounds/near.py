"""The shingles round: only where near-duplicates are asked for, and only over rows that may be one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace import errors
from millrace.runtime.stage import Result, Task
from millrace_cleaning.infer import CleaningPlan, PlannedColumn
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near_images import lookalikes_among
from millrace_cleaning.parts import picked, read_column
from millrace_cleaning.rounds.book import Book
from millrace_cleaning.rounds.job import Job

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Of all rows of the parts: the first row that is like it (itself, if none), and how like it is to its nearest.

    Attributes:
        measured: Jaccard similarity of texts; of images, bits in which their hashes differ.
        limit: What was asked of pairs.
    """

    first: Ints
    measured: npt.NDArray[np.floating[Any]] | Ints
    limit: float

    @property
    def repeats(self) -> Flags:
        """Which rows are near-duplicates of an earlier one."""
        found: Flags = self.first != np.arange(len(self.first))
        return found


def near_column(plan: CleaningPlan, config: NearDedupConfig) -> PlannedColumn:
    """The text or image that is compared.

    Raises:
        InvalidData: There is no such column, or several and none is named.
    """
    comparable = {c.name: c for c in plan.columns if c.type == "text" or (c.type == "image" and c.shape is None)}
    features = [c for c in plan.with_role("feature") if c.name in comparable]
    if config.column and config.column not in comparable:
        raise errors.InvalidData(
            f"There is no text or image column {config.column!r}; {errors.nearest(config.column, comparable)}",
            field="with.near_dedup.column",
        )
    if not config.column and len(features) != 1:
        raise errors.InvalidData(
            f"Say which text or image is compared: there are {len(features)} such features"
            f"{': ' + ', '.join(c.name for c in features[:20]) if features else ''}.",
            field="with.near_dedup.column",
        )
    return comparable[config.column] if config.column else features[0]


def signatures_of(batch: pa.RecordBatch, *, plan: CleaningPlan, config: NearDedupConfig) -> pa.RecordBatch:
    """What near-duplicates are found by: MinHash values of texts, perceptual hashes of images.

    Raises:
        StageFailed: The extra that it needs is not installed here.
    """
    column = near_column(plan, config)
    array = batch.column(column.name)
    try:
        if column.type == "image":
            from millrace_cleaning.steps.images.hashing import signatures as hashes

            return hashes(array)
        from millrace_cleaning.near.minhash import signatures
    except ImportError as error:
        raise errors.StageFailed(
            f"Near-duplicates of type {column.type} need {error.name or 'a library'}, which is not installed here.",
            remedy=f"pip install 'millrace[{'media' if column.type == 'image' else 'text'}]'",
            field="with.near_dedup",
        ) from error
    return signatures(array, config=config)


def image_likeness(job: Job, config: NearDedupConfig, book: Book, *, alive: Flags) -> Likeness:
    """Join images that look alike into clusters: eight bytes a row, so no further round is needed."""
    hashes = read_column([job.shelf.get(part.files["signatures"]) for part in book.with_rows], "hash")
    found = lookalikes_among(hashes, alive=alive, max_distance=config.max_distance)
    return Likeness(found.first, found.distance, config.max_distance)


def shingle_tasks(
    job: Job, config: NearDedupConfig, book: Book, *, name: str, plan: CleaningPlan, alive: Flags
) -> list[Task]:
    """One task for each part with rows that share a band's key with another; none if there is no such row.

    Args:
        name: Of the noted book.
        alive: Which rows are no exact duplicates.
    """
    from millrace_cleaning.near.lsh import candidates

    parts = book.with_rows
    files = [job.shelf.get(part.files["signatures"]) for part in parts]
    pairs = candidates(files, config=config, alive=alive)
    if not len(pairs):
        return []
    shelved = _shelve(job, "pairs.npy", pairs)
    bounds = np.cumsum([0, *(part.kept for part in parts)])
    places = np.split(np.unique(pairs), np.searchsorted(np.unique(pairs), bounds[1:-1]))
    column = near_column(plan, config).name
    return [
        {
            "do": "shingle", "book": name, "pairs": shelved, "column": column, "texts": part.files["rows"],
            "places": _shelve(job, "places.npy", rows - begin),
        }
        for part, rows, begin in zip(parts, places, bounds[:-1], strict=True) if len(rows)
    ]  # fmt: skip


def shingle(job: Job, task: Task) -> Result:
    """Leave the shingle sets of a part's candidates on the shelf."""
    from millrace_cleaning.near.verify import write_sets

    config = job.config.near_dedup
    assert config is not None, "only who asks for near-duplicates has this round"
    target = job.path("sets.arrow")
    texts = picked(job.shelf.get(task["texts"]), _read(job.shelf.get(task["places"])), columns=[task["column"]])
    write_sets(target, (batch.column(0) for batch in texts), config=config)
    return {"did": "shingle", "book": task["book"], "pairs": task["pairs"], "sets": job.shelf.put(target)}


def likeness(job: Job, config: NearDedupConfig, results: Sequence[Result], *, num_rows: int) -> Likeness:
    """Judge the candidate pairs by their whole sets, and join what is similar into clusters."""
    from millrace_cleaning.near.clusters import clusters
    from millrace_cleaning.near.verify import similarities

    pairs = _read(job.shelf.get(results[0]["pairs"]))
    files = [job.shelf.get(result["sets"]) for result in results]
    found = clusters(
        pairs, similarities(pairs, files, rows=np.unique(pairs), config=config), num_rows=num_rows
    )  # fmt: skip
    return Likeness(found.first, found.similarity, config.threshold)


def _shelve(job: Job, name: str, array: Ints) -> str:
    np.save(job.path(name), array, allow_pickle=False)
    return job.shelf.put(job.path(name))


def _read(file: Path) -> Ints:
    found: Ints = np.load(file, allow_pickle=False)
    return found
