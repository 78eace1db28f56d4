"""Between repair and profile: duplicates go, every other row gets its split, and the rows of every shard are picked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors
from millrace.runtime.stage import Result, Task
from millrace_cleaning import account
from millrace_cleaning.divide import Division, Keys, divide, drops_duplicates
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.parts import GROUP, MOMENT, ROW, read_column
from millrace_cleaning.proofs import Proof, prove
from millrace_cleaning.rounds.book import Book, book_of, note_book, places, plan_of
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.rounds.near import Likeness, image_likeness, likeness, near_column, shingle_tasks
from millrace_cleaning.rounds.picks import shelve_picks
from millrace_cleaning.steps.findings import Findings
from millrace_cleaning.uniqueness import Repeats, repeats

Ints = npt.NDArray[np.int64]


def after_repair(job: Job, results: Sequence[Result]) -> list[Task]:
    """Ask for the shingles of what may be near-duplicates; if nothing may be, divide at once."""
    name = note_book(job, [result["part"] for result in results], plan=results[0]["plan"])
    book, plan = book_of(job, name), plan_of(job, results[0]["plan"])
    keys = _keys(job, book)
    repeated = _repeated(keys, plan, job)
    if job.config.near_dedup is not None:
        alive = repeated == np.arange(len(keys))
        if near_column(plan, job.config.near_dedup).type == "image":
            alike = image_likeness(job, job.config.near_dedup, book, alive=alive)
            return _profile_tasks(job, book, keys, repeated, alike, name=name, plan=plan)
        tasks = shingle_tasks(job, job.config.near_dedup, book, name=name, plan=plan, alive=alive)
        if tasks:
            return tasks
    return _profile_tasks(job, book, keys, repeated, None, name=name, plan=plan)


def after_shingles(job: Job, results: Sequence[Result]) -> list[Task]:
    assert job.config.near_dedup is not None, "only who asks for near-duplicates has this round"
    name = results[0]["book"]
    book = book_of(job, name)
    plan = plan_of(job, book.plan)
    keys = _keys(job, book)
    alike = likeness(job, job.config.near_dedup, results, num_rows=len(keys))
    return _profile_tasks(job, book, keys, _repeated(keys, plan, job), alike, name=name, plan=plan)


def _keys(job: Job, book: Book) -> Keys:
    """The keys of all rows.

    Raises:
        InvalidData: No row is left.
    """
    if not book.with_rows:
        removed = account.Tally()
        for part in book.parts:
            removed.merge(account.Tally.from_json(job.read(part.counts)["tally"]))
        rules = ", ".join(f"{rule} ({count})" for rule, count in removed.removed.items()) or "none was read"
        raise errors.InvalidData(
            f"No row is left: {rules}.", remedy="Check the null policies, the columns' types and the steps."
        )
    return Keys.read([job.shelf.get(part.files["keys"]) for part in book.with_rows])


def _repeated(keys: Keys, plan: CleaningPlan, job: Job) -> Ints:
    """For each row, the first with equal features; itself where duplicates stay."""
    return keys.repeated() if drops_duplicates(plan, job.config) else np.arange(len(keys), dtype=np.int64)


def _profile_tasks(
    job: Job, book: Book, keys: Keys, repeated: Ints, alike: Likeness | None, *, name: str, plan: CleaningPlan
) -> list[Task]:
    keep = repeated == np.arange(len(keys))
    config = job.config.near_dedup
    found = [(account.DEDUP, _duplicates(keys, repeated, job))]
    together = None
    if alike is not None and config is not None:
        found.append((account.NEAR_DEDUP, _near_duplicates(keys, alike, job)))
        if config.drop:
            keep = keep & ~alike.repeats
        else:
            together = alike.first
    division = divide(keys, keep, plan=plan, config=job.config, seed=job.split_seed, together=together)
    again = list(repeats(partial(read_column, keys.files), np.flatnonzero(keep), config=job.config))
    crossed = _shelve_crossed(job, book, keys, found, _proofs(job, keys, division, alike), again)
    picks = shelve_picks(job, division, book.with_rows, rows_per_shard=job.config.rows_per_shard)
    return [{"do": "profile", "book": name, "crossed": crossed, "split": split, "picks": p} for split, p in picks]


def _proofs(job: Job, keys: Keys, division: Division, alike: Likeness | None) -> list[Proof]:
    """What is counted again from the rows' final splits. A text that is cut stands on both sides on purpose."""
    rows, codes, split = division.rows, division.codes, job.config.split
    if division.cuts is not None:
        is_whole = np.bincount(rows)[rows] == 1
        rows, codes = rows[is_whole], codes[is_whole]
    return prove(
        codes,
        keys=(keys.low[rows], keys.high[rows]),
        groups=read_column(keys.files, GROUP).to_numpy()[rows] if split.by else None,
        clusters=None if alike is None else alike.first[rows],
        moments=read_column(keys.files, MOMENT).to_numpy()[rows] if split.time else None,
    )


def _duplicates(keys: Keys, repeated: Ints, job: Job) -> pa.Table:
    rows = np.flatnonzero(repeated != np.arange(len(keys)))
    findings = Findings()
    details = _named("repeats", repeated[rows], keys, job)
    findings.add(rows, action="removed", rule="duplicate", details=details)
    return findings.table()


def _near_duplicates(keys: Keys, alike: Likeness, job: Job) -> pa.Table:
    config = job.config.near_dedup
    assert config is not None
    rows = np.flatnonzero(alike.repeats)
    findings = Findings()
    findings.add(
        rows, action="removed" if config.drop else "flagged", rule="near_duplicate", values=alike.measured[rows],
        limit=alike.limit, details=_named("is in the cluster of", alike.first[rows], keys, job),
    )  # fmt: skip
    return findings.table()


def _named(verb: str, rows: Ints, keys: Keys, job: Job) -> list[str]:
    ordinals = read_column(keys.files, ROW).to_numpy()[rows]
    return [f"{verb} {job.row_prefix}-{ordinal}" for ordinal in ordinals.tolist()]


def _shelve_crossed(
    job: Job, book: Book, keys: Keys, found: Iterable[tuple[str, pa.Table]], proofs: Sequence[Proof],
    again: Sequence[Repeats],
) -> str:  # fmt: skip
    """Shelve the account, the counts and the proofs of what was found between rows; return the name of a note of all."""
    found = list(found)
    tally = account.Tally()
    for step, table in found:
        tally.add(step, table)
    ordinals = read_column(keys.files, ROW).to_numpy()
    paths, numbers = _places(job, book, ordinals)
    entries = account.entries(found, ordinals=ordinals, files=paths, numbers=numbers, only=job.config.account)
    target = job.path("crossed.parquet")
    pq.write_table(entries, target, compression="lz4")
    note: dict[str, Any] = {"tally": tally.to_json(), "entries": job.shelf.put(target), "num": entries.num_rows}
    note["repeats"] = [_repeats_json(found, paths, numbers) for found in again]
    return job.note({**note, "proofs": [proof.to_json() for proof in proofs]})


def _repeats_json(found: Repeats, paths: Sequence[str], numbers: Ints) -> dict[str, Any]:
    example = ""
    if found.example is not None:
        example = ", which repeats ".join(f"{paths[row]}:{numbers[row] + 1}" for row in found.example)
    about = {"expectation": found.expectation, "columns": list(found.columns)}
    return {**about, "rows": found.num_rows, "example": example}


def _places(job: Job, book: Book, ordinals: Ints) -> tuple[list[str], Ints]:
    """The file of each row, and its number there, from 0. Ordinals ascend."""
    files: list[str] = []
    found = [np.empty(0, dtype=np.int64)]
    for part in book.with_rows:
        begin, end = np.searchsorted(ordinals, [part.first_row, part.first_row + part.rows])
        shifted = ordinals[begin:end] + (part.first_in_file - part.first_row)
        paths, numbers = places(job, part.path, part.span, shifted)
        files += paths
        found.append(numbers)
    return files, np.concatenate(found)
