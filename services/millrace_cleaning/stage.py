"""The clean stage. A small source is read, repaired and written by its first attempt. A larger one takes two rounds:
scan every part to decide the columns over all of them; then repair every part; and merge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Artifact, Context, Inputs, NextPlan, Result, Results, Task, outputs
from millrace_cleaning.assemble import assemble
from millrace_cleaning.infer import CleaningPlan, make_plan
from millrace_cleaning.parts import write_part
from millrace_cleaning.read import Files, Part, Rejects, data_files, has_fixed_columns, parts_of, read_part
from millrace_cleaning.repair import Repairs
from millrace_cleaning.scan import ColumnScan, fill_absent, scan_batches
from millrace_cleaning.settings import CleanConfig

Scans = dict[str, ColumnScan]


def plan(context: Context, config: CleanConfig, inputs: Inputs) -> Sequence[Task]:
    """One task for a source of at most `bytes_per_task`, else one per file or range of row groups."""
    source: Artifact = inputs["raw"]
    files = data_files([entry.path for entry in source.manifest.files], formats=config.formats)[0]
    if sum(source.entry(path).size_bytes for path in files) <= config.bytes_per_task:
        return [{"do": "everything"}]
    parts = parts_of(_files(source), config=config, bytes_per_part=config.bytes_per_task)
    if len(parts) == 1:
        return [{"do": "everything"}]
    context.log.info("cleaning_planned", files=len(files), parts=len(parts))
    return [{"do": "scan", "path": p.path, "span": p.span} for p in parts]


def work(context: Context, config: CleanConfig, inputs: Inputs, task: Task) -> Result | StageOutputs:
    source: Artifact = inputs["raw"]
    if task["do"] == "everything":
        return _clean_at_once(context, config, source)
    part = _part(task)
    if task["do"] == "scan":
        scans, num_rows = _scan(source, part, config)
        found = json.dumps({name: scan.to_json() for name, scan in scans.items()}).encode()
        return {"did": "scan", "task": task, "scans": context.store.put_bytes(found), "rows": num_rows}
    plan_ = CleaningPlan.model_validate_json(context.store.get_bytes(task["plan"]))
    repairs = Repairs()
    target = context.workdir / "part.parquet"
    _repair(
        source, part, config, plan_, target, repairs=repairs, first_row=task["row"], first_in_file=task["row_in_file"],
        seed=context.seed,
    )  # fmt: skip
    counts = json.dumps({"unparseable": repairs.unparseable, "removed": repairs.removed}).encode()
    blob = context.store.put_file(target)[0] if target.exists() else ""
    done = {"blob": blob, "repairs": context.store.put_bytes(counts)}
    return {"did": "repair", "plan": task["plan"], "rows": task["rows"], **done}


def merge(context: Context, config: CleanConfig, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
    """After the scans: decide the columns and ask for repairs. After the repairs: write the data set."""
    everything = list(results)
    if everything[0]["did"] == "scan":
        return NextPlan(_repair_tasks(context, config, inputs["raw"], everything))
    repairs = Repairs()
    parts = []
    for index, result in enumerate(everything):
        counts = json.loads(context.store.get_bytes(result["repairs"]))
        repairs.unparseable.update(counts["unparseable"])
        repairs.removed.update(counts["removed"])
        if result["blob"]:
            parts.append(context.workdir / f"part-{index:05d}.parquet")
            context.store.fetch(result["blob"], parts[-1])
    plan_ = CleaningPlan.model_validate_json(context.store.get_bytes(everything[0]["plan"]))
    rows_in = sum(result["rows"] for result in everything)
    return _finish(context, config, inputs["raw"], parts, plan_, repairs, rows_in)


def _clean_at_once(context: Context, config: CleanConfig, source: Artifact) -> StageOutputs:
    parts = parts_of(_files(source), config=config, bytes_per_part=config.bytes_per_task)
    scanned = []
    for done, part in enumerate(parts):
        scanned.append((part, *_scan(source, part, config)))
        context.progress(done + 1, 3 * len(parts), unit="files", step="scan")
    plan_ = _plan_columns(scanned, config, source)
    repairs = Repairs()
    files = []
    first_row = 0
    for done, (part, _, num_rows) in enumerate(scanned):
        files.append(context.workdir / f"part-{done:05d}.parquet")
        _repair(source, part, config, plan_, files[-1], repairs=repairs, first_row=first_row, first_in_file=0, seed=context.seed)
        first_row += num_rows
        context.progress(len(parts) + done + 1, 3 * len(parts), unit="files", step="repair")
    return _finish(context, config, source, files, plan_, repairs, first_row)


def _scan(source: Artifact, part: Part, config: CleanConfig) -> tuple[Scans, int]:
    batches = read_part(_files(source), part, config=config, rejects=Rejects.of(config))
    return scan_batches(batches, null_values=config.null_values)


def _repair(
    source: Artifact, part: Part, config: CleanConfig, plan_: CleaningPlan, target: Path, *,
    repairs: Repairs, first_row: int, first_in_file: int, seed: int,
) -> None:  # fmt: skip
    write_part(
        target, read_part(_files(source), part, config=config, rejects=Rejects.of(config)), plan=plan_,
        null_values=config.null_values, path=part.path, first_row=first_row, first_in_file=first_in_file, repairs=repairs,
        seed=seed,
    )  # fmt: skip


def _plan_columns(scanned: Iterable[tuple[Part, Scans, int]], config: CleanConfig, source: Artifact) -> CleaningPlan:
    """Merge the parts' scans and decide every column.

    Raises:
        InvalidData: There is no row, or files of fixed columns do not have the same ones.
    """
    merged: Scans = {}
    total = 0
    columns: dict[str, str] = {}  # column -> the first file that has it
    for part, scans, num_rows in scanned:
        if has_fixed_columns(part.path) and num_rows:
            _check_columns(part.path, scans, columns)
        for name, scan in scans.items():
            merged.setdefault(name, ColumnScan(rows=total, nulls=total)).merge(scan)
        total += num_rows
        fill_absent(merged, num_rows=total)
    skipped = data_files([entry.path for entry in source.manifest.files], formats=config.formats)[1]
    if not total:
        raise errors.InvalidData("The source has no rows.", remedy="Give at least one row below the header.")
    plan_ = make_plan(merged, config=config)
    if skipped:
        note = f"{len(skipped)} files are no data and were left out, such as {skipped[0]}."
        plan_ = plan_.model_copy(update={"warnings": (note, *plan_.warnings)})
    return plan_


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


def _repair_tasks(context: Context, config: CleanConfig, source: Artifact, results: Sequence[Result]) -> list[Task]:
    """One repair for each scanned part that has rows. Each is told where it stands in the source and in its file."""

    def scanned() -> Iterator[tuple[Part, Scans, int]]:
        for result in results:
            found: dict[str, Any] = json.loads(context.store.get_bytes(result["scans"]))
            yield _part(result["task"]), {n: ColumnScan.from_json(v) for n, v in found.items()}, result["rows"]

    blob = context.store.put_bytes(_plan_columns(scanned(), config, source).to_json().encode())
    tasks: list[Task] = []
    row, rows_in_file = 0, Counter[str]()
    for result in results:
        path, num_rows = result["task"]["path"], result["rows"]
        place = {"row": row, "row_in_file": rows_in_file[path], "rows": num_rows}
        tasks.append({"do": "repair", "path": path, "span": result["task"]["span"], "plan": blob, **place})
        row += num_rows
        rows_in_file[path] += num_rows
    return [task for task in tasks if task["rows"]]


def _files(source: Artifact) -> Files:
    return Files.of(source.manifest.files, source.file)


def _part(task: Task) -> Part:
    return Part(task["path"], None if task["span"] is None else (task["span"][0], task["span"][1]))


def _finish(
    context: Context, config: CleanConfig, source: Artifact, parts: Sequence[Path], plan_: CleaningPlan,
    repairs: Repairs, rows_in: int,
) -> StageOutputs:  # fmt: skip
    made = assemble(
        parts, plan=plan_, config=config, repairs=repairs, rows_in=rows_in, source=source.ref.digest[:16],
        seed=context.seed if config.split.seed is None else config.split.seed, root=context.workdir / "dataset",
        progress=lambda done, total: context.progress(2 * total + done, 3 * total, unit="rows", step="write"),
    )  # fmt: skip
    dataset = context.write_artifact("dataset", made.files, meta=made.meta.model_dump(mode="json", by_alias=True))
    context.log.info("dataset_written", **made.meta.num_rows)
    return outputs({"dataset": dataset}, summary=made.summary, metrics={"rows": float(made.summary["rows_out"])})
