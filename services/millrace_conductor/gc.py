"""When garbage is collected: by conductors once in a while, at low priority, and by `millrace gc`."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from millrace import errors
from millrace.contracts.ids import new_id
from millrace.ledger.collections import CollectionPhase, tenants_due
from millrace.ledger.database import Database
from millrace.ledger.ledger import open_ledger
from millrace.settings import Settings, load_settings
from millrace.store.connect import open_store
from millrace_conductor.collecting import Collector, Policy, Report, policy_of
from millrace_conductor.relay import StoreOf

log = structlog.get_logger()

LOOK_S = 60.0
"""How often a conductor looks whether a collection is due. The first look is later than short factories live."""

REST_S = 0.05
"""Rest after each step: a collection leaves the ledger and the store to whoever works."""


class _Stopped(Exception):
    """The conductor ends; the collection goes on elsewhere, or later."""


def collect_forever(
    database: Database, stores: StoreOf, settings: Settings, *, owner: str, stop: threading.Event
) -> None:
    """Collect each tenant's garbage when it is due, until told to stop. What goes wrong is logged and tried again."""
    # With jitter, so that conductors that start together do not look together.
    while not stop.wait(LOOK_S * random.uniform(1.0, 1.5)):
        if settings.gc_interval_s:
            _collect_due(database, stores, settings, owner=owner, stop=stop)


def _collect_due(database: Database, stores: StoreOf, settings: Settings, *, owner: str, stop: threading.Event) -> None:
    def rest(_phase: CollectionPhase, _how_far: str) -> None:
        if stop.wait(REST_S):
            raise _Stopped

    try:
        due = tenants_due(database, own=settings.tenant, now=time.time(), interval_s=settings.gc_interval_s)
        for tenant in due:
            collector = Collector(
                database, stores(tenant), policy=policy_of(settings), folder=settings.home / "gc", owner=owner, say=rest
            )
            log.info("garbage_collected", **collector.collect().to_json())
    except _Stopped:
        return
    except errors.Conflict as error:
        log.debug("garbage_left_to_another", reason=str(error))
    except errors.MillraceError as error:
        log.warning("garbage_waits", reason=str(error))
    except Exception:
        log.exception("garbage_collection_failed")


def main(argv: Sequence[str]) -> int:
    """`millrace gc`: collect now, and report. Arguments are a JSON object, which the command line has checked."""
    options = json.loads(argv[0])
    settings = load_settings(Settings)
    database = open_ledger(settings.database).database
    try:
        collector = Collector(
            database,
            open_store(settings, tenant=settings.tenant),
            policy=_policy(settings, options["grace_s"], is_idle=options["idle"]),
            folder=settings.home / "gc",
            owner=new_id("cmd"),
            say=_Progress().say,
        )
        report = collector.survey() if options["dry_run"] else collector.collect()
    finally:
        database.close()
    print(json.dumps(report.to_json(), indent=2) if options["json"] else told(report, is_dry=options["dry_run"]))
    return 0


def told(report: Report, *, is_dry: bool = False) -> str:
    """A report for people."""
    verb = "would be" if is_dry else "was"
    rows = ", ".join(f"{num} {name.replace('_', ' ')}" for name, num in report.trimmed.items() if num) or "nothing"
    lines = [
        f"From the ledger {verb} removed: {rows}.",
        f"Garbage {verb} removed: {report.removed[0]:,} blobs, {_size(report.removed[1])};"
        f" {report.heads} heads of ended tasks, {report.leftovers} unfinished uploads.",
    ]
    lines += [
        f"  kept: {num:>9,} blobs {_size(size):>10}  {_REASONS.get(why, f'named by {why}')}"
        for why, (num, size) in sorted(report.kept.items(), key=lambda item: -item[1][1])
    ]
    return "\n".join([*lines, f"It took {report.seconds:.1f} s."])


_REASONS = {
    "young": "stored or touched within the grace",
    "uploads": "uploaded lately",
    "merges": "read by open merges",
}


def _policy(settings: Settings, grace_s: float | None, *, is_idle: bool) -> Policy:
    """The settings' policy with another grace.

    Raises:
        InvalidInput: A grace shorter than the writers' would take away what they have just found and rely on.
    """
    policy = policy_of(settings)
    if grace_s is None:
        return policy
    if grace_s < settings.gc_grace_s and not is_idle:
        raise errors.InvalidInput(
            f"A grace of {grace_s:g} s is shorter than MILLRACE_GC_GRACE_S, {settings.gc_grace_s:g} s, which writers rely on.",
            field="--grace",
            remedy="Stop whatever uses the store, and say --idle; or set MILLRACE_GC_GRACE_S for all processes.",
        )
    return replace(policy, grace_s=grace_s)


class _Progress:
    """One line on a terminal, rewritten at most ten times a second; nothing where nobody looks."""

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def say(self, phase: CollectionPhase, how_far: str) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._said_at > 0.1:
            self._said_at = now
            sys.stderr.write(f"\r\x1b[K{phase}: {how_far}\r")


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
