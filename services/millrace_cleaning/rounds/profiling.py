"""The profile round: what every shard will hold; merged, it decides the schema and what stands in for nulls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from millrace.contracts.schema import Column, DatasetSchema
from millrace.runtime.stage import Result, Task
from millrace_cleaning import account
from millrace_cleaning.infer import PlannedColumn
from millrace_cleaning.parts import cut_column, evenly
from millrace_cleaning.profile import Profile
from millrace_cleaning.rounds.book import book_of, plan_of
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.rounds.picks import Picks, read_picks


def profile_shard(job: Job, task: Task) -> Result:
    """Sum over the rows of one shard, in batches that are cut alike however the source was cut."""
    plan = plan_of(job, book_of(job, task["book"]).plan)
    picks = read_picks(job.shelf.get(task["picks"]))
    profile = Profile(plan)
    for batch in evenly(_measures(job, picks, cut_column(plan, job.config))):
        profile.add(batch, task["split"])
        job.report(profile.num_rows.total(), picks.table.num_rows, "profile")
    return {"did": "profile", "task": task, "profile": job.note(profile.dump())}


def _measures(job: Job, picks: Picks, text: str) -> Iterator[pa.RecordBatch]:
    begin = 0
    for batch in picks.read(job, "measures"):
        if picks.is_cut:
            index = batch.schema.get_field_index(text)
            sizes = picks.sizes(begin=begin, num_rows=batch.num_rows).cast(batch.column(index).type)
            batch = batch.set_column(index, text, sizes)
        begin += batch.num_rows
        yield batch


def write_tasks(job: Job, results: Sequence[Result]) -> list[Task]:
    """One task for each shard of data, and one for each of the account and of what is in quarantine."""
    first = results[0]["task"]
    book = book_of(job, first["book"])
    plan = plan_of(job, book.plan)
    profile = Profile(plan)
    for result in results:
        profile.merge(Profile.load(plan, job.read(result["profile"])))
    imputed = profile.imputed()
    schema = DatasetSchema(columns=tuple(_column(c, profile) for c in plan.columns), task=job.config.task)
    decided = job.note(
        {"book": first["book"], "crossed": first["crossed"], "profile": profile.dump(), "imputed": imputed}
        | {"schema": schema.model_dump(mode="json", by_alias=True)}
    )
    numbers = Counter[str]()
    tasks: list[Task] = []
    for result in results:
        split = result["task"]["split"]
        path = f"data/{split}-{numbers[split]:05d}.parquet"
        numbers[split] += 1
        tasks.append(
            {"do": "write", "decided": decided, "path": path, "split": split, "picks": result["task"]["picks"]}
        )
    crossed = job.read(first["crossed"])
    files = [(part.files["entries"], part.num_entries) for part in book.parts if part.num_entries]
    for number, pieces in enumerate(account.slices([*files, (crossed["entries"], crossed["num"])])):
        path = f"account/part-{number:05d}.parquet"
        tasks.append({"do": "account", "decided": decided, "path": path, "pieces": job.note(pieces)})
    held = [part.files["quarantine"] for part in book.parts if "quarantine" in part.files]
    tasks.append({"do": "quarantine", "decided": decided, "path": "quarantine.parquet", "held": job.note(held)})
    return tasks


def _column(column: PlannedColumn, profile: Profile) -> Column:
    stats = profile.columns[column.name]
    train = stats.numbers["train"]
    has_range = train.count > 0 and (column.type in ("number", "integer", "timestamp") or column.shape is not None)
    return Column(
        name=column.name,
        type=column.type,
        role=column.role,
        nullable=bool(stats.nulls) and column.on_null != "impute",
        vocabulary=profile.vocabulary(column) if column.type == "category" else None,
        shape=column.shape,
        unit=column.unit,
        minimum=train.minimum if has_range else None,
        maximum=train.maximum if has_range else None,
    )
