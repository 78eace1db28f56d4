"""The scan round: what the columns of every part look like; merged, they decide what all parts are turned into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from millrace import errors
from millrace.runtime.stage import Result, Task
from millrace_cleaning.infer import CleaningPlan, make_plan, private_columns
from millrace_cleaning.read import Part, Rejects, data_files, has_fixed_columns, parts_of, read_part
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.scan import ColumnScan, fill_absent, scan_batches

Scans = dict[str, ColumnScan]


def scan_tasks(job: Job) -> list[Task]:
    """One task for each part of the source."""
    parts = parts_of(job.files, config=job.config, bytes_per_part=job.config.bytes_per_task)
    return [{"do": "scan", "path": part.path, "span": part.span} for part in parts]


def scan(job: Job, task: Task) -> Result:
    rejects = Rejects.of(job.config)
    batches = read_part(job.files, part_of(task), config=job.config, rejects=rejects)
    scans, num_good = scan_batches(
        batches, null_values=job.config.null_values, private=private_columns(job.config)
    )  # fmt: skip
    found = job.note({name: scan.to_json() for name, scan in scans.items()})
    return {
        "did": "scan", "task": task, "scans": found, "good": num_good, "rows": num_good + rejects.num_rows,
        "unread": dict(rejects.rows + rejects.files),
    }  # fmt: skip


def part_of(task: Task) -> Part:
    return Part(task["path"], None if task["span"] is None else (task["span"][0], task["span"][1]))


def repair_tasks(job: Job, results: Sequence[Result]) -> list[Task]:
    """Decide the columns; one repair for each part that has rows. It is told where it stands in the source and in its file.

    Raises:
        InvalidData: There is no row, or the columns do not suit each other or the task.
    """
    blob = job.note(_plan_columns(job, results).model_dump(mode="json", by_alias=True))
    tasks: list[Task] = []
    row, rows_in_file = 0, Counter[str]()
    for result in results:
        path, num_rows = result["task"]["path"], result["rows"]
        place = {"row": row, "row_in_file": rows_in_file[path], "rows": num_rows}
        tasks.append({"do": "repair", "path": path, "span": result["task"]["span"], "plan": blob, **place})
        row += num_rows
        rows_in_file[path] += num_rows
    return tasks


def _plan_columns(job: Job, results: Sequence[Result]) -> CleaningPlan:
    """Merge the parts' scans and decide every column."""
    merged: Scans = {}
    total = 0
    columns: dict[str, str] = {}  # column -> the first file that has it
    for path, scans, num_good in _scanned(job, results):
        if has_fixed_columns(path) and num_good:
            _check_columns(path, scans, columns)
        for name, found in scans.items():
            merged.setdefault(name, ColumnScan(rows=total, nulls=total)).merge(found)
        total += num_good
        fill_absent(merged, num_rows=total)
    if not total:
        raise _no_rows(results)
    plan = make_plan(merged, config=job.config)
    skipped = data_files(list(job.files.sizes), formats=job.config.formats)[1]
    if skipped:
        note = f"Files that are no data and were left out: {len(skipped)}, such as {skipped[0]}."
        plan = plan.model_copy(update={"warnings": (note, *plan.warnings)})
    return plan


def _no_rows(results: Sequence[Result]) -> errors.InvalidData:
    unread = sum((Counter[str](result["unread"]) for result in results), Counter[str]())
    if not unread:
        return errors.InvalidData("The source has no rows.", remedy="Give at least one row below the header.")
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(unread.items()))
    return errors.InvalidData(
        f"The source has no rows: none of what is in it was read ({reasons}).",
        remedy="Look at docs/cleaning.md for what can be read; `on_bad_file: fail` names the first fault.",
    )


def _scanned(job: Job, results: Iterable[Result]) -> Iterator[tuple[str, Scans, int]]:
    for result in results:
        found: dict[str, Any] = job.read(result["scans"])
        yield result["task"]["path"], {n: ColumnScan.from_json(v) for n, v in found.items()}, result["good"]


def _check_columns(path: str, scans: Scans, known: dict[str, str]) -> None:
    different = sorted(known.keys() ^ scans.keys()) if known else []
    if different:
        name = different[0]
        other = known.get(name) or next(iter(known.values()))
        has, lacks = (other, path) if name in known else (path, other)
        raise errors.InvalidData(
            f"{lacks} lacks the column {name!r}, which {has} has.",
            remedy="Give files with the same columns, or clean them apart.",
            field=name,
        )
    for name in scans:
        known.setdefault(name, path)
