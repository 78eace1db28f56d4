"""The end of the stage: the profile, what people are warned of, expectations, and the manifests of both artifacts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import DatasetMeta, DatasetSchema, Shard
from millrace.runtime.stage import Context, Result, outputs
from millrace_cleaning import account
from millrace_cleaning.expect import check_expectations
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.profile import Profile
from millrace_cleaning.report.page import render
from millrace_cleaning.report.sampling import read_samples
from millrace_cleaning.rounds.book import Book, book_of, plan_of
from millrace_cleaning.rounds.job import Job
from millrace_cleaning.split import SPLITS
from millrace_cleaning.steps.recipe import Flow, labels

_MANY_DUPLICATES = 0.2
_FEW_ROWS_OF_CLASS = 5
_MOST_RULES = 12
_WARNING_CHARS = 280


def finish(context: Context, job: Job, results: Sequence[Result]) -> StageOutputs:
    """Name all files in two manifests.

    Raises:
        InvalidData: Something that is expected of the data set is not so.
    """
    decided = job.read(results[0]["decided"])
    book = book_of(job, decided["book"])
    plan = plan_of(job, book.plan)
    profile = Profile.load(plan, decided["profile"])
    schema = DatasetSchema.model_validate(decided["schema"])
    report = _report(job, book, plan, profile, decided)
    check_expectations(job.config.expect, report)

    shards = tuple(Shard(path=r["path"], split=r["split"], num_rows=r["rows"]) for r in results if r["of"] == "write")
    counts = {split: profile.num_rows[split] for split in SPLITS}
    meta = DatasetMeta.model_validate({"schema": schema, "shards": shards, "num_rows": counts})
    files: dict[str, Any] = {
        r["path"]: job.shelf.entry(r["file"], r["path"]) for r in results if r["of"] != "quarantine"
    }
    files["schema.json"] = _json(schema.model_dump(mode="json", by_alias=True))
    files["profile.json"] = _json(report)
    sample = read_samples([job.shelf.get(r["sample"]) for r in results if "sample" in r])
    files["report.html"] = render(report, schema, sample)
    dataset = context.write_artifact("dataset", files, meta=meta.model_dump(mode="json", by_alias=True))
    held = next(r for r in results if r["of"] == "quarantine")
    quarantine = context.write_artifact(
        "quarantine", {held["path"]: job.shelf.entry(held["file"], held["path"])}, meta=report["unread"]
    )
    context.log.info("dataset_written", **counts)
    return outputs(
        {"dataset": dataset, "quarantine": quarantine}, summary=_summary(report, len(schema.columns)),
        metrics={"rows": float(report["rows_out"])},
    )  # fmt: skip


def _report(
    job: Job, book: Book, plan: CleaningPlan, profile: Profile, decided: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """What `profile.json` says."""
    counts = [job.read(part.counts) for part in book.parts]
    tally = account.Tally()
    crossed = job.read(decided["crossed"])
    for count in [*counts, crossed]:
        tally.merge(account.Tally.from_json(count["tally"]))
    rows_in = sum(part.rows for part in book.parts)
    removed = {rule: count for rule, count in sorted(tally.removed.items()) if count}
    warnings = [*plan.warnings, *_warnings(plan, profile, tally, removed, rows_in)]
    warnings += [
        f"The split leaks: {proof['leaking_rows']} rows break the claim '{proof['claim']}'"
        for proof in crossed["proofs"] if not proof["holds"]
    ]  # fmt: skip
    unread = _unread([count["rejects"] for count in counts])
    for of in ("files", "rows"):
        if unread[of]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in unread[of].items())
            warnings.insert(0, f"{of.capitalize()} that were not read: {sum(unread[of].values())} ({reasons}).")
    return {
        "format": "millrace.profile/v1", "rows_in": rows_in, "rows_out": profile.num_rows.total(), "removed": removed,
        "splits": {split: profile.num_rows[split] for split in SPLITS}, "proofs": crossed["proofs"],
        "unparseable": dict(sorted(tally.unparseable.items())), "imputed": decided["imputed"], "unread": unread,
        "steps": _steps(plan, [count["flow"] for count in counts]),
        "rules": [
            {"step": step, "rule": rule, "action": action, "count": count}
            for (step, rule, action), count in sorted(tally.rules.items())
        ],
        "repeats": crossed["repeats"], "columns": profile.to_json(), "warnings": warnings,
    }  # fmt: skip


def _steps(plan: CleaningPlan, flows: Sequence[Mapping[str, Sequence[int]]]) -> list[dict[str, Any]]:
    """How many rows, and bytes of their values, went into each step of the recipe and came out, and how many it touched."""
    found = []
    for label in labels(plan.steps):
        total = sum((Flow(*flow[label]) for flow in flows if label in flow), Flow())
        found.append({"step": label, **total.as_json(), "removed": total.rows_in - total.rows_out})
    return found


def _unread(rejects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows, files = Counter[str](), Counter[str]()
    for counts in rejects:
        rows.update(counts["rows"])
        files.update(counts["files"])
    replaced = sum(counts["replaced"] for counts in rejects)
    return {"rows": dict(sorted(rows.items())), "files": dict(sorted(files.items())), "replaced": replaced}


def _warnings(
    plan: CleaningPlan, profile: Profile, tally: account.Tally, removed: Mapping[str, int], rows_in: int
) -> list[str]:
    unasked = {rule: count for rule, count in removed.items() if rule.startswith("null_")}
    found = [f"{count} of {rows_in} rows went: {rule}." for rule, count in unasked.items()]
    found += [f"{count} values of {name!r} were unparseable and are null." for name, count in tally.unparseable.items()]
    if removed.get("duplicate", 0) > _MANY_DUPLICATES * rows_in:
        found.append(
            f"{removed['duplicate']} of {rows_in} rows repeat the features of another; if these are separate "
            "observations, say `dedup: false`."
        )
    for column in plan.with_role("target"):
        if column.type == "category":
            found += _class_warnings(column.name, profile.columns[column.name].counts)
    return found


def _class_warnings(name: str, counts: Mapping[str, Counter[str]]) -> list[str]:
    totals: Counter[str] = sum(counts.values(), Counter())
    rare = sorted(label for label, count in totals.items() if count < _FEW_ROWS_OF_CLASS)
    unseen = sorted(label for label in totals if not counts["train"][label])
    found = []
    if rare:
        found.append(f"{len(rare)} classes of {name!r} have fewer than {_FEW_ROWS_OF_CLASS} rows, such as {rare[0]!r}.")
    if unseen:
        found.append(f"{len(unseen)} classes of {name!r} are not in the training split, such as {unseen[0]!r}.")
    return found


def _summary(report: Mapping[str, Any], num_columns: int) -> dict[str, Any]:
    """What people see first: of many rules those that removed most."""
    removed = Counter(report["removed"]).most_common()
    unread = {of: sum(report["unread"][of].values()) for of in ("rows", "files")}
    return {
        "rows_in": report["rows_in"], "rows_out": report["rows_out"], "splits": report["splits"], "columns": num_columns,
        "removed": dict(removed[:_MOST_RULES]), "removed_by_others": sum(count for _, count in removed[_MOST_RULES:]),
        "unread": unread, "warnings": [_cut(warning) for warning in report["warnings"][:8]],
    }  # fmt: skip


def _cut(warning: str) -> str:
    return warning if len(warning) <= _WARNING_CHARS else f"{warning[: _WARNING_CHARS - 1]}…"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
