"""The write round: each shard of the data set, each file of its account, and the quarantine, by a task of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.schema import ROW_ID, DatasetSchema
from millrace.runtime.stage import Result, Task
from millrace_cleaning.account import write_account
from millrace_cleaning.parts import cut_column, evenly
from millrace_cleaning.read import QUARANTINE
from millrace_cleaning.report.sampling import Sampler
from millrace_cleaning.rounds.book import book_of, plan_of
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.rounds.picks import Picks, read_picks
from millrace_cleaning.write import write_shard

ROWS_PER_GROUP = 256
"""Of the quarantine, whose rows may have 64 KiB each."""


def write_data(job: Job, task: Task) -> Result:
    """Write one shard of one split."""
    decided = job.read(task["decided"])
    schema = DatasetSchema.model_validate(decided["schema"])
    plan = plan_of(job, book_of(job, decided["book"]).plan)
    picks = read_picks(job.shelf.get(task["picks"]))
    rows = _rows(job, picks, imputed=decided["imputed"], text=cut_column(plan, job.config))
    sampler = Sampler(schema)
    target = job.path("shard.parquet")
    num_rows = write_shard(target, sampler.watch(rows), schema=schema)
    sample = job.path("sample.parquet")
    sampler.write(sample, task["split"])
    return _wrote(job, task, num_rows) | {"file": job.shelf.put(target), "sample": job.shelf.put(sample)}


def _rows(job: Job, picks: Picks, *, imputed: Mapping[str, Any], text: str) -> Iterator[pa.RecordBatch]:
    """Yield the shard's rows with their ids, nulls filled in, and texts cut."""
    ids = picks.row_ids(job)
    begin = 0
    for batch in picks.read(job, "rows"):
        if picks.is_cut:
            index = batch.schema.get_field_index(text)
            batch = batch.set_column(index, text, picks.cut(batch.column(index), begin=begin))
        for name, value in imputed.items():
            index = batch.schema.get_field_index(name)
            batch = batch.set_column(index, name, pc.fill_null(batch.column(index), value))
        own = ids.slice(begin, batch.num_rows)
        begin += batch.num_rows
        yield pa.RecordBatch.from_arrays([own, *batch.columns], names=[ROW_ID, *batch.schema.names])
        job.report(begin, len(ids), "write")


def write_entries(job: Job, task: Task) -> Result:
    """Write one file of the account."""
    target = job.path("account.parquet")
    pieces = [(job.shelf.get(name), begin, end) for name, begin, end in job.read(task["pieces"])]
    write_account(target, pieces, row_prefix=job.row_prefix)
    return _wrote(job, task, sum(end - begin for _, begin, end in pieces)) | {"file": job.shelf.put(target)}


def write_quarantine(job: Job, task: Task) -> Result:
    """Write all that could not be read into one file; without rows if all could be read."""
    target = job.path("quarantine.parquet")
    num_rows = 0
    with pq.ParquetWriter(target, QUARANTINE, compression="zstd") as writer:
        for batch in evenly(_held(job, job.read(task["held"])), ROWS_PER_GROUP):
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return _wrote(job, task, num_rows) | {"file": job.shelf.put(target)}


def _held(job: Job, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for name in names:
        with pq.ParquetFile(job.shelf.get(name)) as file:
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, use_threads=False):
                yield batch.cast(QUARANTINE)


def _wrote(job: Job, task: Task, num_rows: int) -> Result:
    job.report(num_rows, num_rows, "write")
    about = {"did": "write", "of": task["do"], "decided": task["decided"], "path": task["path"], "rows": num_rows}
    return about | ({"split": task["split"]} if "split" in task else {})
