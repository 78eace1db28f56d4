"""The repair round: a part's columns get their types, the recipe is run, and what later rounds need is written apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace import errors
from millrace.runtime.stage import Result, Task
from millrace_cleaning import account
from millrace_cleaning.infer import CleaningPlan, private_columns
from millrace_cleaning.parts import PartWriter, keys_of, measures_of
from millrace_cleaning.read import Rejects, read_part
from millrace_cleaning.repair import STEP, Place, repair
from millrace_cleaning.rounds.book import DonePart, places, plan_of
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.rounds.near import signatures_of
from millrace_cleaning.rounds.scanning import part_of
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.recipe import Flow, Ran, Step, load, run

Ints = npt.NDArray[np.int64]


def repair_part(job: Job, task: Task) -> Result:
    """Read a part again, and leave its rows, keys, measures, entries of the account and signatures on the shelf."""
    work = _PartWork(job, task, plan_of(job, task["plan"]))
    for batch in read_part(job.files, part_of(task), config=job.config, rejects=work.rejects):
        work.add(batch)
        job.report(work.num_read, task["rows"], "repair")
    return {"did": "repair", "plan": task["plan"], "part": work.finish().model_dump(mode="json")}


class _PartWork:
    """One part in the making."""

    def __init__(self, job: Job, task: Task, plan: CleaningPlan) -> None:
        self.job = job
        self.task = task
        self.plan = plan
        self.steps: Sequence[Step] = load(plan.steps)
        self.writer = PartWriter(job.path(""))
        self.rejects = Rejects.of(
            job.config,
            sink=lambda rows: self.writer.add("quarantine", rows),
            first_row=task["row_in_file"],
            keeps_raw=not private_columns(job.config),
        )
        self.tally = account.Tally()
        self.flow: dict[str, Flow] = {}
        self.num_read = self.num_kept = self.num_entries = 0

    def add(self, raw: pa.RecordBatch) -> None:
        numbers = self.rejects.numbers(raw.num_rows)
        ordinals = numbers + (self.task["row"] - self.task["row_in_file"])
        repaired = repair(
            raw, self.plan, null_values=self.job.config.null_values, place=Place(self.task["path"], numbers)
        )  # fmt: skip
        scratch = Scratch(seed=self.job.seed, pii_key=self.job.pii_key)
        try:
            ran = run(repaired.batch, self.steps, keep=repaired.keep, scratch=scratch)
        except errors.InvalidData as error:
            if "row" not in error.context:
                raise
            raise self._placed(error, numbers) from error
        self._account(((STEP, repaired.findings.table()), *ran.findings), ordinals, numbers)
        for label, flow in ran.flow.items():
            self.flow[label] = self.flow.get(label, Flow()) + flow
        self._write(ran, ordinals[ran.rows])
        self.num_read += raw.num_rows
        self.num_kept += ran.batch.num_rows

    def _placed(self, error: errors.InvalidData, numbers: Ints) -> errors.InvalidData:
        """What a step says of a row of the batch, with the file and the row's number there."""
        row = int(numbers[error.context["row"]]) + 1
        message = f"{self.task['path']}, row {row}: {error.message}"
        return errors.InvalidData(message, remedy=error.remedy, field=error.field, row=row)

    def _account(self, found: Sequence[tuple[str, pa.Table]], ordinals: Ints, numbers: Ints) -> None:
        for step, table in found:
            self.tally.add(step, table)
        part = part_of(self.task)
        files, numbers = places(self.job, part.path, part.span, numbers)
        entries = account.entries(
            found, ordinals=ordinals, files=files, numbers=numbers, only=self.job.config.account
        )  # fmt: skip
        if entries.num_rows:
            self.writer.add("entries", entries)
            self.num_entries += entries.num_rows

    def _write(self, ran: Ran, ordinals: Ints) -> None:
        if not ran.batch.num_rows:
            return
        self.writer.add("rows", ran.batch)
        self.writer.add("keys", keys_of(ran.batch, ordinals, plan=self.plan, config=self.job.config))
        self.writer.add("measures", measures_of(ran.batch, plan=self.plan))
        if self.job.config.near_dedup is not None:
            found = signatures_of(ran.batch, plan=self.plan, config=self.job.config.near_dedup)
            self.writer.add("signatures", found)

    def finish(self) -> DonePart:
        self.rejects.flush()
        counts = {
            "tally": self.tally.to_json(), "rejects": self.rejects.counts(),
            "flow": {label: list(flow.values()) for label, flow in self.flow.items()},
        }  # fmt: skip
        shelf = self.job.shelf
        return DonePart(
            path=self.task["path"], span=self.task["span"], first_row=self.task["row"], first_in_file=self.task["row_in_file"],
            rows=self.task["rows"], kept=self.num_kept, num_entries=self.num_entries, counts=self.job.note(counts),
            files={name: shelf.put(path) for name, path in self.writer.close().items()},
        )  # fmt: skip
