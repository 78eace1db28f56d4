"""The ledger's database in memory: the SQL, the constraints and the rollbacks of SQLite, without its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from millrace import errors
from millrace.ledger.database import REPORT, Row, Transaction
from millrace.ledger.migrating import create_schema
from millrace.ledger.sqlite import SQLiteTransaction

T = TypeVar("T")


class MemoryDatabase:
    """Implements `millrace.ledger.database.Database` for the threads of one simulation, which is one thread."""

    def __init__(self, *, schema: bytes = b"") -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        if schema:
            self._connection.deserialize(schema)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(SQLiteTransaction(self._connection))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result
        except sqlite3.IntegrityError as error:
            raise errors.Conflict(f"The ledger refused a row: {error}.", remedy=REPORT) from error

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        self._connection.close()

    def dump(self) -> bytes:
        return self._connection.serialize()


@cache
def _schema() -> bytes:
    database = MemoryDatabase()
    database.transact(create_schema)
    return database.dump()


def new_ledger() -> MemoryDatabase:
    """An empty ledger with today's schema."""
    return MemoryDatabase(schema=_schema())
