"""Indexes of results, which merges read: written to the store outside of any transaction, because it may be slow or away."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import structlog

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.ledger import tasks
from millrace.ledger.database import Database
from millrace.ledger.state import TaskKey, TaskState
from millrace.store.pages import write_pages
from millrace_conductor.relay import StoreOf

log = structlog.get_logger()

MAX_KEPT = 1000
"""References kept: a merge that is tried again need not be indexed again."""

RETRY_S = 1.0


def index_key(task: TaskState) -> TaskKey:
    """Names the index that a merge's next attempt reads. The fence takes the place of a merge's number, which is always 0:
    after a stage was done again its results may differ, and a lost index is written anew for the attempt that follows."""
    return task.key._replace(idx=task.fence)


class ResultIndices:
    """Indexes by merge task and fence (`index_key`). Several conductors may write one at once: equal results give one reference.

    Rows are read and stored a page at a time. A write that was interrupted begins again; pages that the store has are not
    stored twice. `run` has a thread of its own, so that folding waits for no store; all else may be called from any.

    Args:
        on_written: Called when a merge may go on.
    """

    def __init__(self, database: Database, stores: StoreOf, *, on_written: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._stores = stores
        self._on_written = on_written
        self._written: OrderedDict[TaskKey, ArtifactRef] = OrderedDict()
        self._wanted: set[TaskKey] = set()
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._wait_until = float("-inf")

    @property
    def written(self) -> Mapping[TaskKey, ArtifactRef]:
        return self._written

    def want(self, keys: Iterable[TaskKey]) -> None:
        """Ask for indexes."""
        with self._lock:
            self._wanted |= set(keys)
            is_due = bool(self._wanted) and time.monotonic() >= self._wait_until
        if is_due:
            self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Write what is asked for until told to stop."""
        while not stop.is_set():
            try:
                self.write_wanted()
            except Exception:  # one run's fault must not keep all others from their merges
                log.exception("index_failed")
            self._woken.wait(RETRY_S)
            self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def write_wanted(self) -> None:
        """Write what was asked for. While the store is away, it is tried again in a second."""
        with self._lock:
            if time.monotonic() < self._wait_until:
                return
            wanted, self._wanted = sorted(self._wanted), set()
        for key in wanted:
            if key in self._written:  # asked for again while it was being written
                continue
            try:
                self._write(key)
            except errors.MillraceError as error:
                log.warning("merge_waits", run=key.run_id, stage=key.stage, reason=str(error))
                with self._lock:
                    self._wanted.add(key)
                    self._wait_until = time.monotonic() + RETRY_S
            else:
                self._on_written()
        while len(self._written) > MAX_KEPT:
            self._written.popitem(last=False)

    def _write(self, key: TaskKey) -> None:
        found = self._database.read("SELECT tenant FROM runs WHERE run_id = ?", (key.run_id,))
        rows = tasks.results_in_order(self._database, key.run_id, key.stage, key.round)
        for (tenant,) in found:
            self._written[key] = write_pages(self._stores(str(tenant)), "plan", rows)
