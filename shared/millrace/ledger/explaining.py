"""Explaining the cache: from where a stage's answer was taken, or field by field why none was."""

from __future__ import annotations

import json
from collections.abc import Sequence

from millrace import errors
from millrace.contracts.caching import differences, why_never
from millrace.contracts.pipelines import GraphStage
from millrace.contracts.provenance import CacheLook, CacheView, FieldChange
from millrace.contracts.stages import installed_kinds
from millrace.ledger import cache
from millrace.ledger.cache import Use
from millrace.ledger.database import Database

CANDIDATES = 20
"""Earlier looks that are compared; the one with the fewest differences is told."""


def explain(database: Database, tenant: str, run_id: str, stage: str) -> CacheView:
    """Say whether a stage of a run was answered from the cache, and if not, why.

    Raises:
        NotFound: There is no such run, or no such stage in it.
    """
    rows = database.read("SELECT graph, cache FROM runs WHERE tenant = ? AND run_id = ?", (tenant, run_id))
    if not rows:
        raise errors.NotFound(f"There is no run {run_id!r}.", remedy="See `millrace runs`.", field="run_id")
    stages = {s["name"]: s for s in json.loads(rows[0][0])["stages"]}
    if stage not in stages:
        raise errors.NotFound(f"The run has no stage {stage!r}; {errors.nearest(stage, stages)}", field="stage")
    spec = GraphStage.received(stages[stage])
    off = why_never(rows[0][1], spec, installed_kinds().get(spec.kind))
    if off:
        return CacheView(run_id=run_id, stage=stage, answer="off", reason=off)
    looks = tuple(_look(database, use) for use in cache.uses_of(database, run_id, stage))
    return _view(run_id, stage, looks, is_refreshed=rows[0][1] == "refresh")


def _view(run_id: str, stage: str, looks: Sequence[CacheLook], *, is_refreshed: bool) -> CacheView:
    if not looks:
        reason = "it was not looked up yet: its turn has not come, or no worker of its service has announced its code"
        return CacheView(run_id=run_id, stage=stage, answer="waiting", reason=reason)
    if any(look.reason for look in looks):
        reason = next(look.reason for look in looks if look.reason)
        return CacheView(run_id=run_id, stage=stage, answer="off", reason=reason, looks=tuple(looks))
    num_hits, num_shared, num_misses = (
        sum(getattr(look, name) for look in looks) for name in ("num_hits", "num_shared", "num_misses")
    )
    source = next((look.from_run for look in looks if look.from_run), "")
    if not num_misses:
        answer, reason = ("hit", f"computed by {source}") if num_hits else ("shared", "an identical task computed it")
    elif is_refreshed:
        answer, reason = "miss", "the run computes all anew"
    else:
        answer, reason = "miss", f"{num_misses} of {num_hits + num_shared + num_misses} tasks had no answer"
    return CacheView.model_validate(
        {"run_id": run_id, "stage": stage, "answer": answer, "reason": reason, "looks": looks}
    )


def _look(database: Database, use: Use) -> CacheLook:
    compared, changes = ("", ()) if not use.num_misses or use.reason else _nearest(database, use)
    return CacheLook.model_validate(
        {
            "phase": use.phase, "round": use.round, "num_hits": use.num_hits, "num_shared": use.num_shared,
            "num_misses": use.num_misses, "from_run": use.from_run, "reason": use.reason, "compared_with": compared,
            "differences": changes,
        }
    )  # fmt: skip


def _nearest(database: Database, use: Use) -> tuple[str, tuple[FieldChange, ...]]:
    """The earlier run with the fewest differences, and those; the latest of equals."""
    now = cache.fields_of(database, use.base)
    found = [
        (run_id, tuple(FieldChange(field=f, before=b, now=n) for f, b, n in differences(fields, now)))
        for run_id, fields in cache.earlier_entries(database, use, limit=CANDIDATES)
    ]
    return min(found, key=lambda pair: len(pair[1]), default=("", ()))
