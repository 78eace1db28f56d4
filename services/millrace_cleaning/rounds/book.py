"""What the rounds after the repair know of all parts: noted once, and named in every task."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from millrace.contracts.base import Contract
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.read import Part, files_of_rows
from millrace_cleaning.rounds.job import Job

Ints = npt.NDArray[np.int64]


class DonePart(Contract):
    """What the repair round made of one part; files are named as on the shelf."""

    path: str
    span: tuple[int, int] | None = None
    first_row: int = Field(description="Ordinal in the source of its first row.")
    first_in_file: int
    rows: int = Field(description="Rows read, bad ones included.")
    kept: int = Field(description="Rows that stayed: positions in the part's files go up to here.")
    files: dict[str, str] = Field(
        description="rows, keys, measures, entries, signatures, quarantine, as far as they are there."
    )
    num_entries: int
    counts: str = Field(description="Counts of findings, flow by step, and what could not be read.")


class Book(Contract):
    """All parts, in the source's order, and the plan that they followed."""

    plan: str
    parts: tuple[DonePart, ...]

    @property
    def with_rows(self) -> tuple[DonePart, ...]:
        return tuple(part for part in self.parts if part.kept)


def plan_of(job: Job, name: str) -> CleaningPlan:
    return CleaningPlan.model_validate(job.read(name))


def book_of(job: Job, name: str) -> Book:
    return Book.model_validate(job.read(name))


def note_book(job: Job, parts: list[dict[str, Any]], *, plan: str) -> str:
    return job.note({"plan": plan, "parts": parts})


def places(job: Job, path: str, span: tuple[int, int] | None, numbers: Ints) -> tuple[list[str], Ints]:
    """Where rows of a part stand: their files, and their numbers there, from 0.

    Args:
        numbers: The rows' numbers, as the part's reader counts them.
    """
    files = files_of_rows(job.files, Part(path, span), config=job.config)
    if files is None:
        return [path] * len(numbers), numbers
    return [files[number] for number in numbers.tolist()], np.zeros_like(numbers)
