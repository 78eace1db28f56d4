"""One code path to two databases: transactions and `?` placeholders over sqlite3 or psycopg, errors translated."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from millrace import errors

Row = tuple[Any, ...]
T = TypeVar("T")

MAX_RETRIES = 5


class Transaction(Protocol):
    """What code inside a transaction may do. SQL uses `?`; both databases read the same text."""

    lock: str
    """Suffix of a SELECT that locks its rows: ` FOR UPDATE`, or nothing where writers are alone anyway."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]: ...

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute; return how many rows were written."""

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None: ...


class Database(Protocol):
    """A database. Thread-safe; connections are per thread and per process."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run work in one durable, serialized transaction; run it again after a deadlock or a lost connection."""

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Read outside of any transaction."""

    def close(self) -> None:
        """Close the connections of all threads."""


def open_database(url: str) -> Database:
    """Open `sqlite:///path` or `postgresql://...`.

    Raises:
        InvalidInput: The URL has another scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return SQLiteDatabase(Path(url.removeprefix("sqlite://")))
    if scheme == "postgresql":
        return PostgresDatabase(url)
    raise errors.InvalidInput(
        f"Expected sqlite:///path or postgresql://..., found the scheme {scheme!r}.", field="MILLRACE_DATABASE_URL"
    )


# --- SQLite ----------------------------------------------------------------------------------------------------------


class _SQLiteTransaction:
    lock = ""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

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
            path.parent.mkdir(parents=True, exist_ok=True)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        with _translated(self._path):
            connection = self._connection()
            with self._turn():
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(_SQLiteTransaction(connection))
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                return result

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with _translated(self._path):
            return self._connection().execute(sql, parameters).fetchall()

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
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text:
            raise errors.ResourceExhausted(
                f"No space is left for the ledger at {path}.", remedy="Free disk space."
            ) from error
        raise errors.Unavailable(
            f"The ledger at {path} did not answer: {text}.", remedy="Check the path and its permissions."
        ) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise errors.Corrupt(
            f"{path} is not a ledger: {error}.", remedy="Restore it from a backup, or set another MILLRACE_HOME."
        ) from error
    except OSError as error:
        raise errors.Unavailable(
            f"Cannot use {path}: {error.strerror}.", remedy="Check MILLRACE_HOME and its permissions."
        ) from error


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


class _PostgresTransaction:
    lock = " FOR UPDATE"

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self._cursor.execute(_percent(sql), parameters)
        return list(self._cursor.fetchall())

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        self._cursor.execute(_percent(sql), parameters)
        return int(self._cursor.rowcount)

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self._cursor.executemany(_percent(sql), list(parameters))


class PostgresDatabase:
    """psycopg, READ COMMITTED with explicit row locks, synchronous commit as the server has it."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise errors.InvalidInput(
                "PostgreSQL needs the psycopg package.",
                field="MILLRACE_DATABASE_URL",
                remedy="pip install 'millrace[postgres]'",
            ) from None
        self._psycopg = psycopg
        self._url = url
        self._local = threading.local()
        self._opened: list[Any] = []

    def transact(self, work: Callable[[Transaction], T]) -> T:
        return self._retried(lambda connection: self._transact_once(connection, work))

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        def once(connection: Any) -> list[Row]:
            with connection.cursor() as cursor:
                return _PostgresTransaction(cursor).rows(sql, parameters)

        return self._retried(once)

    def close(self) -> None:
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._local = threading.local()

    def _drop(self) -> None:
        """Close this thread's connection; the next use opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._opened.remove(connection)
            self._local.connection = None

    def _transact_once(self, connection: Any, work: Callable[[Transaction], T]) -> T:
        with connection.transaction(), connection.cursor() as cursor:
            return work(_PostgresTransaction(cursor))

    def _retried(self, once: Callable[[Any], T]) -> T:
        """Run again what a deadlock or a lost connection undid. A commit whose answer was lost runs twice: work is idempotent."""
        for attempt in range(MAX_RETRIES):
            try:
                return once(self._connection())
            except (self._psycopg.errors.DeadlockDetected, self._psycopg.errors.SerializationFailure):
                time.sleep(0.01 * 2**attempt)
            except self._psycopg.OperationalError as error:
                self._drop()
                if attempt + 1 == MAX_RETRIES or _is_refusal(error):
                    raise self._unavailable(error) from None
                time.sleep(0.05 * 2**attempt)
        raise errors.Unavailable("PostgreSQL kept reporting deadlocks.", remedy="Try again; report it if it persists.")

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed or self._local.pid != os.getpid():
            connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            self._local.connection, self._local.pid = connection, os.getpid()
            self._opened.append(connection)
        return connection

    def _unavailable(self, error: Exception) -> errors.MillraceError:
        parts = urlsplit(self._url)
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        if "password" in str(error) or "authentication" in str(error):
            return errors.Unauthorized(
                f"PostgreSQL at {where} refused the credentials.",
                field="MILLRACE_DATABASE_URL",
                remedy="Check user and password.",
            )
        return errors.Unavailable(
            f"PostgreSQL at {where} does not answer.",
            field="MILLRACE_DATABASE_URL",
            remedy="Start it, or correct the URL.",
        )


def _is_refusal(error: Exception) -> bool:
    return any(word in str(error) for word in ("authentication failed", "does not exist", "no password supplied"))


def _percent(sql: str) -> str:
    return sql.replace("?", "%s")
