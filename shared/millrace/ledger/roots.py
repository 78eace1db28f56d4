"""Every text of the ledger that may name an artifact, source by source, a page in memory at a time.

The order matters while others write. What names an artifact is copied from one table to another and then deleted from
the first: an accepted event from the inbox into the journal and the stages, a cached answer into tasks and stages. A
source is read before what is copied from it, so that a name which moves meanwhile is seen at one of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from millrace.ledger.database import Database
from millrace.ledger.state import OPEN_TASK

_PAGE = 500


class Source(NamedTuple):
    """A table's texts: SELECT <columns> FROM <table>, ordered by its key."""

    name: str
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    where: str = "tenant = ?"


_ANY = "? <> ''"  # rows of all tenants: another's digests are not in this tenant's store, and do no harm

SOURCES = (
    Source("answers", "cache", ("cache_key",), ("answer",)),
    Source("inbox", "inbox", ("event_id",), ("event",), _ANY),
    Source("timers", "timers", ("timer_id",), ("event",), _ANY),
    Source("outbox", "outbox", ("id",), ("body",), _ANY),
    Source("uploads", "uploads", ("digest",), ("digest",)),
    Source("triggers", "triggers", ("trigger_id",), ("spec", "state")),
    Source("pipelines", "pipelines", ("name",), ("spec", "params")),
    Source("tasks", "tasks", ("run_id", "stage", "round", "phase", "idx"), ("result",), "tenant = ? AND result IS NOT NULL"),
    Source("stages", "stages", ("run_id", "name"), ("plan", "outputs"), _ANY),
    Source("runs", "runs", ("run_id",), ("params", "graph", "spec")),
    # A checkpoint that was handed back is its head's to keep; what a refused event names was not accepted.
    Source(
        "events", "events", ("event_id",), ("data",),
        "tenant = ? AND refused = '' AND type <> 'attempt.yielded.v1'",
    ),
    Source("releases", "releases", ("endpoint", "release_number"), ("model",)),
    Source("endpoints", "endpoints", ("name",), ("model",)),
    Source("dead_letters", "dead_letters", ("id",), ("evidence",)),
)  # fmt: skip


def texts(database: Database, source: Source, tenant: str) -> Iterator[list[str]]:
    """Yield a source's texts in pages."""
    key, columns = ", ".join(source.key), ", ".join(source.columns)
    after: tuple[object, ...] = ()
    while True:
        later = f" AND ({key}) > ({', '.join('?' * len(after))})" if after else ""
        rows = database.read(
            f"SELECT {key}, {columns} FROM {source.table} WHERE {source.where}{later} ORDER BY {key} LIMIT {_PAGE}",
            (tenant, *after),
        )
        if rows:
            after = rows[-1][: len(source.key)]
            yield [str(text) for row in rows for text in row[len(source.key) :] if text is not None]
        if len(rows) < _PAGE:
            return


def open_merges(database: Database, tenant: str) -> list[tuple[str, str, int]]:
    """(run, stage, round) of merges that are not over."""
    states = ",".join(f"'{status}'" for status in sorted(OPEN_TASK))
    rows = database.read(
        f"SELECT run_id, stage, round FROM tasks WHERE tenant = ? AND phase = 'merge' AND status IN ({states})",
        (tenant,),
    )
    return [(str(run_id), str(stage), int(round_)) for run_id, stage, round_ in rows]
