"""The ledger on SQLite: WAL, synchronous=FULL, one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from millrace import errors
from millrace.folders import make_folder
from millrace.ledger.database import REPORT, Row, Transaction

T = TypeVar("T")


class SQLiteTransaction:
    """Of an open connection, which whoever made this begins and commits."""

    lock = ""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Row]]:
        found = self.rows(sql, parameters)  # at once: what is written next may not show in it
        return lambda: found

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, parameters)

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, parameters)


class SQLiteDatabase:
    """WAL with synchronous=FULL, and a file lock around each writing transaction.

    The lock keeps writers fair (SQLite alone starves some) and closes the WAL-reset race of SQLite before 3.51.3, which
    needs commits of several connections at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._opened: list[tuple[sqlite3.Connection, int]] = []
        with _translated(path):
            make_folder(path.parent)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        with _translated(self._path):
            connection = self._connection()
            with self._turn():
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(SQLiteTransaction(connection))
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                return result

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with _translated(self._path):
            return self._connection().execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """See SharedDatabase.alone; here each step of a migration is a transaction, and these take turns."""
        yield

    def build_index(self, statement: str) -> None:
        self.transact(lambda tx: tx.run(statement.replace(" INDEX ", " INDEX IF NOT EXISTS ", 1)))

    def connected_code(self, *, before: int) -> list[str]:  # noqa: ARG002
        """Nobody: the processes on one file are those of one `millrace up`, and its home is locked."""
        return []

    def close(self) -> None:
        for connection, lock in self._opened:
            connection.close()
            os.close(lock)
        self._opened.clear()
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "connection", None) is None or self._local.pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection, self._local.pid = connection, os.getpid()
            self._local.lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._opened.append((connection, self._local.lock))
        return self._local.connection  # type: ignore[no-any-return]  # threading.local is untyped

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        fcntl.flock(self._local.lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._local.lock, fcntl.LOCK_UN)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _sqlite_fault(error, path) from error
    except OSError as error:
        raise errors.Unavailable(
            f"Cannot use {path}: {error.strerror}.", remedy="Check MILLRACE_HOME and its permissions."
        ) from error


def _sqlite_fault(error: sqlite3.Error, path: Path) -> errors.MillraceError:
    code = getattr(error, "sqlite_errorcode", None) or 0
    if isinstance(error, sqlite3.IntegrityError):
        return errors.Conflict(f"The ledger at {path} refused a row: {error}.", remedy=REPORT)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return errors.ResourceExhausted(f"No space is left for the ledger at {path}.", remedy="Free disk space.")
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return errors.Corrupt(
            f"{path} is not a ledger: {error}.", remedy="Restore it from a backup, or set another MILLRACE_HOME."
        )
    return errors.Unavailable(
        f"The ledger at {path} did not answer: {error}.", remedy="Check the path and its permissions."
    )
