"""The clean stage: rounds of tasks, each of which any worker may do again. A small source walks all of them in one attempt."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Artifact, Context, Inputs, NextPlan, Result, Results, Task
from millrace_cleaning.compiling import telling_of_compiling
from millrace_cleaning.extras import needing
from millrace_cleaning.hiding import hiding
from millrace_cleaning.infer import private_columns
from millrace_cleaning.rounds.dividing import after_repair, after_shingles
from millrace_cleaning.rounds.finishing import finish
from millrace_cleaning.rounds.job import Job, LocalShelf, StoreShelf, open_job
from millrace_cleaning.rounds.near import shingle
from millrace_cleaning.rounds.profiling import profile_shard, write_tasks
from millrace_cleaning.rounds.repairing import repair_part
from millrace_cleaning.rounds.scanning import repair_tasks, scan, scan_tasks
from millrace_cleaning.rounds.writing import write_data, write_entries, write_quarantine
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.steps.recipe import load
from millrace_cleaning.terms import with_terms

_WORK: Mapping[str, Callable[[Job, Task], Result]] = {
    "scan": scan, "repair": repair_part, "shingle": shingle, "profile": profile_shard, "write": write_data,
    "account": write_entries, "quarantine": write_quarantine,
}  # fmt: skip
"""What is done for a task, by its `do`."""

_NEXT: Mapping[str, Callable[[Job, Sequence[Result]], list[Task]]] = {
    "scan": repair_tasks, "repair": after_repair, "shingle": after_shingles, "profile": write_tasks,
}  # fmt: skip
"""The tasks that follow a round, by the `did` of its results. After `write` comes the end."""


def plan(context: Context, config: CleanConfig, inputs: Inputs) -> Sequence[Task]:
    """One task for a source of at most `bytes_per_task`, else one for each part of it.

    Raises:
        InvalidData: A file of terms is missing, or is none.
        StageFailed: A step of the recipe, or near_dedup, needs an extra that is not installed.
    """
    config = with_terms(config, inputs)
    load(config.steps)
    if config.near_dedup is not None:
        with needing("text"):
            importlib.import_module("numba")
    source: Artifact = inputs["raw"]
    tasks = scan_tasks(_shared_job(context, config, source))
    size = sum(source.entry(path).size_bytes for path in {task["path"] for task in tasks})
    if len(tasks) == 1 or size <= config.bytes_per_task:
        return [{"do": "everything"}]
    context.log.info("cleaning_planned", parts=len(tasks), size_bytes=size)
    return tasks


def work(context: Context, config: CleanConfig, inputs: Inputs, task: Task) -> Result | StageOutputs:
    config, source = with_terms(config, inputs), inputs["raw"]
    with hiding(if_private=bool(private_columns(config))), telling_of_compiling(context, config):
        if task["do"] == "everything":
            return _at_once(context, config, source)
        return _WORK[task["do"]](_shared_job(context, config, source), task)


def merge(context: Context, config: CleanConfig, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
    """Go on to the next round, or end."""
    found = list(results)
    job = _shared_job(context, with_terms(config, inputs), inputs["raw"])
    if found[0]["did"] == "write":
        return finish(context, job, found)
    with telling_of_compiling(context, config):
        return NextPlan(_NEXT[found[0]["did"]](job, found))


def _at_once(context: Context, config: CleanConfig, source: Artifact) -> StageOutputs:
    """All rounds, one task after another, with nothing in the store before the end."""
    shelf = LocalShelf(context.workdir / "shelf")

    def report(done: int, total: int, step: str) -> None:
        if len(tasks) == 1:
            context.progress(done, max(done, total), unit="rows", step=step)

    job = open_job(context, config, source, shelf=shelf, report=report)
    tasks = scan_tasks(job)
    while True:
        results = []
        for done, task in enumerate(tasks):
            context.progress(done, len(tasks), unit="tasks", step=task["do"])
            results.append(_WORK[task["do"]](job, task))
        if results[0]["did"] == "write":
            return finish(context, job, results)
        tasks = _NEXT[results[0]["did"]](job, results)


def _shared_job(context: Context, config: CleanConfig, source: Artifact) -> Job:
    return open_job(context, config, source, shelf=StoreShelf(context), report=None)
