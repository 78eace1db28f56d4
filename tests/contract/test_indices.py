"""Indexes of results: written in a thread, once, and again when the store was away."""

from __future__ import annotations

import threading
from pathlib import Path

from folder import Folder
from hands import chain, submit
from millrace import errors
from millrace.ledger import tasks
from millrace.ledger.database import Transaction
from millrace.ledger.state import TaskKey, TaskState
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace.store.pages import read_pages
from millrace_conductor import indices
from millrace_conductor.indices import ResultIndices

NUM_ROWS = 2500


def merge_of(folder: Folder) -> TaskKey:
    """The merge of a stage whose tasks are all done."""
    run_id = submit(folder.ledger, chain("a"))
    like = TaskState(TaskKey(run_id, "a", 0, "work", 0), "default", "functions", "cpu", 0)

    def done(tx: Transaction) -> None:
        tasks.add_tasks(tx, like, count=NUM_ROWS)
        tx.run("UPDATE tasks SET status = 'succeeded', result = '{\"n\": ' || idx || '}' WHERE run_id = ?", (run_id,))

    folder.ledger.database.transact(done)
    return TaskKey(run_id, "a", 0, "merge", 0)


def test_an_index_is_written_by_its_thread_when_the_store_is_back(folder: Folder, tmp_path: Path) -> None:
    asked: list[str] = []
    written = threading.Event()

    def store_of(tenant: str) -> Store:
        asked.append(tenant)
        if len(asked) == 1:
            raise errors.Unavailable("The store is away.")
        return open_store(Settings(home=tmp_path), tenant=tenant)

    made, stop, key = (
        ResultIndices(folder.ledger.database, store_of, on_written=written.set),
        threading.Event(),
        merge_of(folder),
    )
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    made.want([key])
    assert written.wait(10 * indices.RETRY_S)
    stop.set()
    made.wake()
    thread.join(10)
    rows = read_pages(open_store(Settings(home=tmp_path), tenant="default"), made.written[key])
    assert [row["n"] for row in rows] == list(range(NUM_ROWS))
    made.want([key])
    made.write_wanted()
    assert len(asked) == 2  # what is there is not written again
