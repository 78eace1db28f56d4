"""One SQLite file of the transport: schema, serialized write transactions, and how durable a commit is."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from millrace.bus.embedded.locks import LockFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exchanges (name TEXT PRIMARY KEY, type TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS queues (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,            -- of an exclusive queue: the connection it dies with; else empty
    auto_delete INTEGER NOT NULL,   -- goes when its last consumer does
    arguments TEXT NOT NULL         -- as declared, canonical JSON
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bindings (
    exchange TEXT NOT NULL, routing_key TEXT NOT NULL, queue TEXT NOT NULL,
    PRIMARY KEY (exchange, routing_key, queue)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumers (
    queue TEXT NOT NULL, owner TEXT NOT NULL, tag TEXT NOT NULL,
    PRIMARY KEY (queue, owner, tag)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    owner TEXT NOT NULL DEFAULT '',         -- the connection it is delivered to; empty: ready
    deliveries INTEGER NOT NULL DEFAULT 0,
    envelope TEXT NOT NULL,                 -- properties, headers and address, JSON
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_ready ON messages (queue, owner, id);
CREATE INDEX IF NOT EXISTS messages_owned ON messages (owner) WHERE owner != '';
"""

_BUSY_S = 10.0


class Database:
    """A connection to one file. Threads take turns; processes take turns by a lock file beside it.

    The lock file is there for fairness (SQLite's busy loop starves writers for seconds), and it closes the race of
    WAL resets that SQLite has before 3.51.3.

    Args:
        path: The file; made if it is not there.
        is_lasting: Whether what it holds must survive power loss. If not, no commit ever waits for the disk.
    """

    def __init__(self, path: Path, *, is_lasting: bool) -> None:
        self.is_lasting = is_lasting
        self._mutex = threading.RLock()
        self._lock = LockFile(path.with_suffix(".lock"))
        with self._lock.held():
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(f"PRAGMA synchronous={'NORMAL' if is_lasting else 'OFF'}")
            self._connection.executescript(_SCHEMA)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read what is committed, one consistent statement at a time."""
        with self._mutex:
            yield self._connection

    @contextlib.contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; it commits on leaving, and is undone if the block raises.

        Args:
            durable: Wait until the commit is on the disk. Claims and acknowledgements do not: a power loss that
                forgets them means a repeated delivery, which everybody must bear anyhow.
        """
        with self._mutex, self._lock.held():
            if durable and self.is_lasting:
                self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                if durable and self.is_lasting:
                    self._connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close under the lock: the last one to close checkpoints."""
        with self._mutex, self._lock.held():
            self._connection.close()
        self._lock.close()
