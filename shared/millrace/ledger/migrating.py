"""Bringing a database to the schema that this code needs, beside processes that use it.

A migration is one transaction, which notes itself, and then its indexes, each of which may be found made, half-made or not
at all. So whoever is killed here leaves a state that the next process goes on from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from millrace import errors
from millrace.ledger.database import Database, SharedDatabase, Transaction
from millrace.ledger.migrations import MIGRATIONS, Migration

LOCK_TIMEOUT = "2s"
"""How long a migration waits for a table, for whoever comes after it waits as long; then it lets them pass and tries again."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database has.

    Attributes:
        version: Of the last migration that is complete; 0: none.
        begun: Of the last one that was begun.
        oldest_code: The lowest schema version whose code may use it.
    """

    version: int
    begun: int
    oldest_code: int

    def describe(self, *, code: int) -> str:
        """In words, beside the schema that this code was written for."""
        if self.oldest_code > code:
            return f"schema {self.begun} is for code of schema {self.oldest_code} and newer, this is of {code}"
        if self.version < code:
            begun = ", the next is begun" if self.begun > self.version else ""
            return f"schema {self.version}{begun}, this code needs {code}: a migration is due"
        return f"schema {self.version}, code of schema {code}"


def migrate(database: SharedDatabase, *, migrations: Sequence[Migration] = MIGRATIONS) -> Schema:
    """Bring the database to these migrations' schema. Of many processes that do so at once one does, the others wait.

    A database that a newer Millrace has migrated is used as it is, unless its schema contracted since.

    Raises:
        Conflict: This code is too old for the database, or older code is connected that the next migration would break.
    """
    schema = read_schema(database)
    _refuse_old_code(schema, code=len(migrations))
    if schema.version == 0:
        database.transact(lambda tx: create_schema(tx, migrations=migrations))
    elif schema.version < len(migrations):
        with database.alone():
            for number in range(read_schema(database).version + 1, len(migrations) + 1):
                _apply(database, migrations[number - 1], number)
    return read_schema(database)


def read_schema(database: Database) -> Schema:
    """What the database has now. An empty one gets the table that says so."""
    database.transact(_create_tables)
    version = int(database.read("SELECT version FROM schema_version WHERE id = 1")[0][0])
    begun, oldest = database.read("SELECT COALESCE(MAX(version), 0), COALESCE(MAX(oldest_code), 1) FROM schema_steps")[
        0
    ]
    return Schema(version=version, begun=max(version, int(begun)), oldest_code=int(oldest))


def create_schema(tx: Transaction, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make all tables of an empty database in this transaction, unless another process has."""
    _create_tables(tx)
    if _locked_version(tx) > 0:
        return
    for number, migration in enumerate(migrations, 1):
        _begin(tx, migration, number)
        for index in migration.indexes:
            tx.run(index)
        _finish(tx, number)


def _apply(database: SharedDatabase, migration: Migration, number: int) -> None:
    if old := database.connected_code(before=migration.oldest_code):
        raise errors.Conflict(
            f"Schema {number} of the ledger is not for code of a schema before {migration.oldest_code}, and such is "
            f"connected: {', '.join(old[:5])}{' and others' if len(old) > 5 else ''}.",
            remedy="Stop these processes first (conductors and gateways of the older Millrace), then start this again.",
        )

    def begin(tx: Transaction) -> None:
        if tx.lock:
            tx.run(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        if _locked_version(tx) < number and not tx.rows("SELECT 1 FROM schema_steps WHERE version = ?", (number,)):
            _begin(tx, migration, number)

    database.transact(begin)
    for index in migration.indexes:
        database.build_index(index)
    database.transact(lambda tx: _finish(tx, number))


def _begin(tx: Transaction, migration: Migration, number: int) -> None:
    for statement in (*migration.statements, *(migration.postgres if tx.lock else ())):
        tx.run(statement)
    tx.run(
        "INSERT INTO schema_steps (version, oldest_code, begun_at) VALUES (?, ?, ?)",
        (number, migration.oldest_code, time.time()),
    )


def _finish(tx: Transaction, number: int) -> None:
    if _locked_version(tx) < number:
        tx.run("UPDATE schema_version SET version = ?, changed_at = ? WHERE id = 1", (number, time.time()))


def _refuse_old_code(schema: Schema, *, code: int) -> None:
    if code < schema.oldest_code:
        raise errors.Conflict(
            f"The ledger has schema {schema.begun}, which code of schema {schema.oldest_code} and newer can use; this "
            f"Millrace is of schema {code}.",
            remedy="Upgrade Millrace.",
        )


def _locked_version(tx: Transaction) -> int:
    return int(tx.rows(f"SELECT version FROM schema_version WHERE id = 1{tx.lock}")[0][0])


def _create_tables(tx: Transaction) -> None:
    if tx.lock:  # PostgreSQL: two processes that create one table at once collide in its catalogue
        tx.rows("SELECT pg_advisory_xact_lock(7046029254386353131)")
    tx.run(
        """CREATE TABLE IF NOT EXISTS schema_version (
            id INTEGER PRIMARY KEY, version INTEGER NOT NULL, changed_at DOUBLE PRECISION NOT NULL)"""
    )
    # A table of its own: code of schema 1 inserts into the other one without naming columns.
    tx.run(
        """CREATE TABLE IF NOT EXISTS schema_steps (
            version INTEGER PRIMARY KEY, oldest_code INTEGER NOT NULL, begun_at DOUBLE PRECISION NOT NULL)"""
    )
    tx.run("INSERT INTO schema_version VALUES (1, 0, ?) ON CONFLICT (id) DO NOTHING", (time.time(),))
