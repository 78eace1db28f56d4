"""Wishes about a run that is there, as they are accepted: judged under the run's lock, then left in its inbox.

The lock orders a wish before or after whatever ends, releases or pauses the run; the conductor folds it in its turn. Each
function raises NotFound for an unknown run, and Conflict, in words, where the run's state does not allow the wish.
"""

from __future__ import annotations

import time

from millrace import errors
from millrace.contracts.events import (
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    decode,
)
from millrace.ledger import queues
from millrace.ledger.database import Transaction
from millrace.ledger.state import FINAL_RUN

Wish = CancelRequested | PauseRequested | ResumeRequested | RetryRequested


def accept(tx: Transaction, event: Event) -> None:
    """Accept a wish, or refuse it; wishing again for what is so already changes nothing.

    Neither does a wish that was accepted before: who lost the answer sends it again, and what came of it may be over.
    """
    wish = decode(event)
    assert isinstance(wish, Wish)
    found = tx.rows(
        f"SELECT status, finished_at IS NOT NULL FROM runs WHERE tenant = ? AND run_id = ?{tx.lock}",
        (event.tenant, wish.run_id),
    )
    if not found:
        raise errors.NotFound(f"There is no run {wish.run_id!r}.", remedy="See `millrace runs`.", field="run_id")
    status, has_ended = str(found[0][0]), bool(found[0][1])
    if _is_accepted(tx, event.id):
        return
    if isinstance(wish, RetryRequested) and status == "queued" and has_ended:
        return  # another wish for it was accepted before, and it is about to begin
    match wish:
        case CancelRequested():
            _check_cancel(tx, wish.run_id, status)
        case RetryRequested():
            _check_retry(tx, wish.run_id, status)
            # At once, so that nobody who looks takes it for ended; what else a retry does is the conductor's to do.
            tx.run("UPDATE runs SET status = 'queued' WHERE run_id = ?", (wish.run_id,))
        case _:
            if status in FINAL_RUN:
                go_on = "" if status == "succeeded" else "Go on with what has not succeeded by `millrace retry`. "
                raise errors.Conflict(
                    f"Run {wish.run_id} has already {_ended(status)}.",
                    remedy=f"{go_on}`millrace rerun {wish.run_id}` starts its pipeline anew.",
                )
    queues.put_inbox(tx, event, run_id=wish.run_id, now=time.time())


def _is_accepted(tx: Transaction, event_id: str) -> bool:
    """Whether an event waits in the inbox or is journalled; one query, as the conductor moves it from one to the other."""
    known = "SELECT 1 FROM inbox WHERE event_id = ? UNION ALL SELECT 1 FROM events WHERE event_id = ?"
    return bool(tx.rows(known, (event_id, event_id)))


def _check_cancel(tx: Transaction, run_id: str, status: str) -> None:
    if status in FINAL_RUN - {"cancelled"}:
        raise errors.Conflict(f"Run {run_id} has already {_ended(status)}.", remedy="There is nothing to cancel.")
    if tx.rows("SELECT 1 FROM stages WHERE run_id = ? AND phase = 'release' AND status = 'running'", (run_id,)):
        raise errors.Conflict(
            f"Run {run_id} has released its model, and waits for a server to load it.",
            remedy="Release another model, or stop the endpoint with `millrace endpoints stop NAME`.",
        )


def _check_retry(tx: Transaction, run_id: str, status: str) -> None:
    if status == "succeeded":
        raise errors.Conflict(
            f"Run {run_id} has succeeded: there is nothing left to do in it.",
            remedy=f"Run it again with `millrace rerun {run_id}`.",
        )
    if status not in FINAL_RUN:
        raise errors.Conflict(
            f"Run {run_id} has not ended: it is {status}.",
            remedy=f"Resume a paused run with `millrace resume {run_id}`; else wait for its end, or cancel it.",
        )
    if tx.rows("SELECT 1 FROM runs WHERE run_id = ? AND trimmed > 0", (run_id,)):
        raise errors.Conflict(
            f"Run {run_id} ended long ago: what its tasks had made was collected.",
            remedy=f"Run it again with `millrace rerun {run_id}`.",
        )
    if tx.rows("SELECT 1 FROM stages WHERE run_id = ? AND phase = 'release' AND status <> 'succeeded'", (run_id,)):
        raise errors.Conflict(
            f"Run {run_id} has released its model, which a retry would do a second time.",
            remedy="See `millrace endpoints`: the release stands, and a server that starts loads it unless a newer one"
            f" replaced it. To release this model again: `millrace rerun {run_id}`.",
        )


def _ended(status: str) -> str:
    return {"rejected": "been rejected", "cancelled": "been cancelled"}.get(status, status)
