"""The ledger on PostgreSQL: psycopg, READ COMMITTED with explicit row locks."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from millrace import errors
from millrace.ledger.database import REPORT, Row, Transaction
from millrace.ledger.migrations import CODE

T = TypeVar("T")

MAX_RETRIES = 5

APPLICATION = "millrace"
"""The name of every session; a slash and the code's schema version follow, except in Millrace 0.1."""

MIGRATION_LOCK = 7046029254386353132
MIGRATION_POLL_S = 0.2

SESSION = {
    # A conductor that is stopped in a transaction holds runs and classes. Its work is undone and made again when it goes
    # on, as after any lost connection; that is no death, so this may be shorter than a lease, but not than a pause of a
    # host that swaps.
    "idle_in_transaction_session_timeout": "10s",
    # Statements are prepared once a connection, and their plans last: one that was made while a table was small would read
    # all of it when it is large. Every statement of a step has an index.
    "enable_seqscan": "off",
    # A host that vanished is noticed by the server, too: its locks go after some 20 s, not after two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
}


class _PostgresTransaction:
    """Statements go out in a pipeline: only who asks for a result waits for the server, and then for all before it."""

    lock = " FOR UPDATE"

    def __init__(self, connection: Any, pipeline: Any) -> None:
        self._connection = connection
        self._pipeline = pipeline

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Row]]:
        fetch: Callable[[], list[Row]] = self._connection.execute(_percent(sql), parameters).fetchall
        return fetch

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self.ask(sql, parameters)()

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        cursor = self._connection.execute(_percent(sql), parameters)
        self._pipeline.sync()
        return int(cursor.rowcount)

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(_percent(sql), parameters)

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        if rows := list(parameters):
            self._connection.cursor().executemany(_percent(sql), rows)


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
            return list(connection.execute(_percent(sql), parameters).fetchall())

        return self._retried(once)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See SharedDatabase.alone. A lock of a session, so it goes with a killed process.

        It is asked for again and again: a statement that waits for it would hold a snapshot, and CREATE INDEX CONCURRENTLY
        waits for all of those.
        """
        driver = self._psycopg
        try:
            connection = self._open()
            try:
                while not connection.execute("SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)).fetchone()[0]:
                    time.sleep(MIGRATION_POLL_S)
            except BaseException:
                connection.close()
                raise
        except driver.Error as error:
            raise self._fault(error) from error
        try:
            yield
        finally:
            connection.close()

    def build_index(self, statement: str) -> None:
        found = re.match(r"CREATE (?:UNIQUE )?INDEX (\w+) ", statement)
        assert found is not None, statement

        def once(connection: Any) -> None:
            whole = connection.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (found[1],)
            ).fetchone()
            if whole is None or not whole[0]:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {found[1]}")  # what an interrupted one left
                connection.execute(statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1))

        self._retried(once)

    def connected_code(self, *, before: int) -> list[str]:
        rows = self.read(
            "SELECT pid, application_name, COALESCE(host(client_addr), 'this host') FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        found = [(pid, _code_of(name), host) for pid, name, host in rows]
        return [f"session {pid} from {host} (schema {code})" for pid, code, host in found if code and code < before]

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
            self._local.connection = None
            if connection in self._opened:
                self._opened.remove(connection)

    def _transact_once(self, connection: Any, work: Callable[[Transaction], T]) -> T:
        """BEGIN goes with the first statement, and COMMIT with the last writes: errors of these are raised at the end."""
        try:
            with connection.pipeline() as pipeline:
                connection.execute("BEGIN")
                result = work(_PostgresTransaction(connection, pipeline))
                end = connection.execute("COMMIT")
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        if end.statusmessage != "COMMIT":  # work went on after a statement had failed
            raise self._psycopg.errors.InFailedSqlTransaction("a statement failed, so nothing was committed")
        return result

    def _retried(self, once: Callable[[Any], T]) -> T:
        """Run again what a deadlock, another writer or a lost connection undid.

        A unique violation means that another transaction, not yet visible, wrote the same row first: run again, the work
        sees it. A commit whose answer was lost runs twice. Both are safe, because all work here is idempotent.
        """
        driver = self._psycopg.errors
        for attempt in range(MAX_RETRIES):
            is_last = attempt + 1 == MAX_RETRIES
            try:
                return once(self._connection())
            except (
                driver.DeadlockDetected, driver.SerializationFailure, driver.UniqueViolation, driver.LockNotAvailable,
            ) as error:  # fmt: skip
                if is_last:
                    raise self._fault(error) from error
                time.sleep(0.01 * 2**attempt)
            except (
                self._psycopg.OperationalError, self._psycopg.InterfaceError, driver.IdleInTransactionSessionTimeout,
            ) as error:  # fmt: skip
                self._drop()
                if is_last or isinstance(error, driver.DiskFull) or _is_refusal(error):
                    raise self._fault(error) from None
                time.sleep(0.05 * 2**attempt)
            except self._psycopg.Error as error:
                raise self._fault(error) from error
        raise AssertionError("the last attempt returns or raises")

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed or self._local.pid != os.getpid():
            connection = self._open()
            self._local.connection, self._local.pid = connection, os.getpid()
            self._opened.append(connection)
        return connection

    def _open(self) -> Any:
        # A server that vanished without a word is noticed after some 20 s, not after the kernel's 15 minutes.
        connection = self._psycopg.connect(
            self._url, autocommit=True, connect_timeout=5, application_name=f"{APPLICATION}/{CODE}", keepalives_idle=10,
            keepalives_interval=5, keepalives_count=2, tcp_user_timeout=20_000,
        )  # fmt: skip
        settings = ", ".join("set_config(%s, %s, false)" for _ in SESSION)
        connection.execute(f"SELECT {settings}", [part for pair in SESSION.items() for part in pair])
        return connection

    def _fault(self, error: Exception) -> errors.MillraceError:
        """The error to raise in the driver's place; it never holds the password."""
        parts, driver = urlsplit(self._url), self._psycopg
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        about = str(error).strip().partition("\n")[0]
        if isinstance(error, driver.errors.DiskFull):
            return errors.ResourceExhausted(
                f"PostgreSQL at {where} has no disk space left.", remedy="Free some there; nothing was lost."
            )
        if isinstance(error, driver.errors.LockNotAvailable):
            return errors.Unavailable(
                f"PostgreSQL at {where} has a transaction that holds a table for long.", remedy="Let it end, or end it."
            )
        if isinstance(error, driver.IntegrityError):
            return errors.Conflict(f"PostgreSQL at {where} refused a row: {about}.", remedy=REPORT)
        if isinstance(error, driver.DataError):
            return errors.InvalidInput(f"PostgreSQL at {where} cannot hold a value: {about}.")
        if "does not exist" in about and isinstance(error, driver.OperationalError):
            return errors.InvalidInput(
                f"PostgreSQL at {where} refused: {about}.", field="MILLRACE_DATABASE_URL", remedy="Create it there."
            )
        if isinstance(error, driver.errors.InsufficientPrivilege) or _is_password_refused(error):
            return errors.Unauthorized(
                f"PostgreSQL at {where} refused the credentials.",
                field="MILLRACE_DATABASE_URL",
                remedy="Check user, password and grants.",
            )
        if isinstance(error, (driver.ProgrammingError, driver.InternalError, driver.NotSupportedError)):
            return errors.Conflict(f"PostgreSQL at {where} refused a statement: {about}.", remedy=REPORT)
        return errors.Unavailable(
            f"PostgreSQL at {where} does not answer.",
            field="MILLRACE_DATABASE_URL",
            remedy="Start it, or correct the URL.",
        )


def _is_password_refused(error: Exception) -> bool:
    return "password" in str(error) or "authentication" in str(error)


def _is_refusal(error: Exception) -> bool:
    return any(word in str(error) for word in ("authentication failed", "does not exist", "no password supplied"))


def _code_of(application: str) -> int:
    """The schema version of a session's code; 0: it is none of Millrace's."""
    name, _, code = application.partition("/")
    if name != APPLICATION:
        return 0
    return int(code) if code.isdigit() else 1


@lru_cache(maxsize=512)
def _percent(sql: str) -> str:
    return sql.replace("?", "%s")
