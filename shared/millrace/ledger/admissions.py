"""Admission: which queued runs of a pipeline may start, where it says `max_runs`.

A place is held from a run's start to its end, paused or not, and by a `run.admitted` that waits in the inbox. Two
conductors may look at one pipeline at once: two runs end in two transactions, and neither sees the other's end; each would
count the other's place as held, both would admit the same oldest run, and the second place would stay empty for ever. So
whoever looks holds the pipeline's lock until its commit, looks after its own runs are written, and the second one counts
what the first has done (READ COMMITTED: each statement sees what was committed before it).

Whoever sees no run that waits takes no lock, so that runs of a pipeline without `max_runs` end beside each other. Such a
look may miss a run that comes between it and its commit, and whose own look counts the place as held still.
`admit_overlooked` finds it.
"""

from __future__ import annotations

from millrace.contracts.events import RunAdmitted, make_event
from millrace.ledger import queues
from millrace.ledger.database import Database, Transaction
from millrace.ledger.lanes import lock_names

_MOST = 1000
"""Runs that one look may admit; whoever ends next looks again."""

# The first condition is that of the index runs_open: without it SQLite reads all runs that the pipeline ever had.
_IS_OPEN = "r.status IN ('queued', 'running', 'paused')"
_IS_QUEUED = f"{_IS_OPEN} AND r.status = 'queued' AND r.max_runs IS NOT NULL AND r.finished_at IS NULL"
_IS_ADMITTED = "SELECT 1 FROM inbox i WHERE i.run_id = r.run_id AND i.event_id LIKE ?"
_ADMISSIONS = "%.admitted.%"


def admit(tx: Transaction, tenant: str, pipeline: str, *, now: float) -> int:
    """Put `run.admitted` into the inbox of the oldest queued runs that fit; return of how many."""
    of_pipeline = f"r.tenant = ? AND r.pipeline = ? AND {_IS_QUEUED}"
    if not tx.rows(f"SELECT 1 FROM runs r WHERE {of_pipeline} LIMIT 1", (tenant, pipeline)):
        return 0
    lock_names(tx, [f"admission {tenant}/{pipeline}"])
    held = _count_held(tx, tenant, pipeline)
    waiting = tx.rows(
        f"SELECT r.run_id, r.seq, r.max_runs FROM runs r WHERE {of_pipeline} AND NOT EXISTS ({_IS_ADMITTED})"
        " ORDER BY r.run_id LIMIT ?",
        (tenant, pipeline, _ADMISSIONS, _MOST),
    )
    num_admitted = 0
    for run_id, seq, max_runs in waiting:
        if held + num_admitted >= int(max_runs):
            break  # the oldest waits, and nobody overtakes it
        event = make_event(
            RunAdmitted(run_id=run_id), source="conductor", subject=run_id, tenant=tenant, id=f"{run_id}.admitted.{seq}"
        )
        queues.put_inbox(tx, event, run_id=run_id, now=now)
        num_admitted += 1
    return num_admitted


def admit_overlooked(database: Database, *, now: float) -> int:
    """Admit the runs that fit and that no end of a run admitted; return how many. A pipeline is a transaction of its own."""
    pipelines = database.read(f"SELECT DISTINCT r.tenant, r.pipeline FROM runs r WHERE {_IS_QUEUED}")
    return sum(
        database.transact(lambda tx, tenant=str(t), pipeline=str(p): admit(tx, tenant, pipeline, now=now))  # type: ignore[misc]  # bound at once
        for t, p in pipelines
    )


def _count_held(tx: Transaction, tenant: str, pipeline: str) -> int:
    rows = tx.rows(
        f"SELECT COUNT(*) FROM runs r WHERE r.tenant = ? AND r.pipeline = ? AND {_IS_OPEN} AND ("
        f"(r.status <> 'queued' AND r.started_at IS NOT NULL) OR (r.status = 'queued' AND EXISTS ({_IS_ADMITTED})))",
        (tenant, pipeline, _ADMISSIONS),
    )
    return int(rows[0][0])
