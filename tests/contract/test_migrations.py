"""The ledger's schema grows under processes that use it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from millrace import errors
from millrace.ledger.connect import open_database
from millrace.ledger.database import SharedDatabase, Transaction
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.ledger.migrating import Schema, migrate, read_schema
from millrace.ledger.migrations import CODE, MIGRATIONS, Migration
from millrace.ledger.postgres import PostgresDatabase

OLD_LEDGER = Path(__file__).parents[1] / "data" / "ledger-0.1.sql"

EXPANDING = Migration(
    oldest_code=CODE,
    statements=("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'", "CREATE TABLE colours (name TEXT)"),
    indexes=("CREATE INDEX runs_by_colour ON runs (colour)",),
)
CONTRACTING = Migration(oldest_code=CODE + 1, statements=("ALTER TABLE runs DROP COLUMN labels",))
NEXT = (*MIGRATIONS, EXPANDING)


@pytest.fixture
def database(ledger_url: str) -> Iterator[SharedDatabase]:
    database = open_database(ledger_url)
    yield database
    database.close()


@pytest.fixture
def old(database: SharedDatabase) -> SharedDatabase:
    """A ledger as Millrace 0.1 left it when its host lost power: runs that ended, and runs in every state of progress."""
    statements = OLD_LEDGER.read_text().split(";\n")
    database.transact(lambda tx: [tx.run(s) for s in statements if s.strip()])
    return database


def test_migrating_twice_changes_nothing(database: SharedDatabase) -> None:
    assert migrate(database) == migrate(database) == Schema(CODE, CODE, max(m.oldest_code for m in MIGRATIONS))


def test_a_ledger_of_version_01_keeps_its_rows(old: SharedDatabase) -> None:
    tables = ("runs", "stages", "tasks", "events")
    columns = {t: ", ".join(c.split()[0] for c in _columns(t)) for t in tables}
    before = {t: sorted(old.read(f"SELECT {columns[t]} FROM {t}"), key=repr) for t in tables}
    migrate(old)
    assert {t: sorted(old.read(f"SELECT {columns[t]} FROM {t}"), key=repr) for t in tables} == before
    assert {r.status for r in Ledger(old).runs("default", limit=50).runs} == {"succeeded", "failed", "running"}


def test_a_migrated_ledger_has_what_a_new_one_has(old: SharedDatabase, tmp_path: Path) -> None:
    migrate(old)
    new = open_ledger(f"sqlite://{tmp_path / 'new.sqlite'}").database
    for (table,) in new.read("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
        names = ", ".join(row[0] for row in new.read(f"SELECT name FROM pragma_table_info('{table}')"))
        old.read(f"SELECT {names} FROM {table} LIMIT 1")
    indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite%'"
    assert _indexes(old) == {row[0] for row in new.read(indexes)}


def test_code_goes_on_beside_an_expanded_schema(database: SharedDatabase) -> None:
    migrate(database, migrations=NEXT)
    assert migrate(database) == Schema(CODE + 1, CODE + 1, CODE)
    Ledger(database).check()


def test_code_that_a_contracted_schema_would_break_is_refused(database: SharedDatabase) -> None:
    migrate(database, migrations=(*NEXT, CONTRACTING))
    with pytest.raises(errors.Conflict, match=f"schema {CODE + 1} and newer can use") as caught:
        migrate(database)
    assert caught.value.remedy == "Upgrade Millrace."


def test_many_processes_that_migrate_at_once_agree(old: SharedDatabase, ledger_url: str) -> None:
    others = [open_database(ledger_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda other: migrate(other, migrations=NEXT), others))
    for other in others:
        other.close()
    assert found == [Schema(CODE + 1, CODE + 1, CODE)] * 4
    assert _indexes(old) >= {"runs_by_colour", "tasks_lanes"}


@pytest.mark.parametrize("step", range(len(MIGRATIONS[-1].indexes) + 1))
def test_an_interrupted_migration_is_finished_by_the_next(old: SharedDatabase, step: int) -> None:
    broken = Migration(
        oldest_code=MIGRATIONS[-1].oldest_code,
        statements=MIGRATIONS[-1].statements,
        indexes=(*MIGRATIONS[-1].indexes[:step], "CREATE INDEX nowhere ON nothing (nobody)"),
    )
    with pytest.raises(errors.MillraceError):
        migrate(old, migrations=(*MIGRATIONS[:-1], broken))
    assert read_schema(old) == Schema(CODE - 1, CODE, broken.oldest_code)
    assert migrate(old).version == CODE
    assert _indexes(old) >= {"tasks_lanes", "runs_to_trim"}


@pytest.mark.servers
def test_an_index_that_was_left_half_made_is_made_again(postgres_database_url: str) -> None:
    database = open_database(postgres_database_url)
    migrate(database)
    run = "INSERT INTO limits VALUES ('default', ?, 1)"
    database.transact(lambda tx: tx.many(run, [("a",), ("b",)]))
    statement = "CREATE UNIQUE INDEX limits_by_max ON limits (max)"
    with pytest.raises(errors.MillraceError):
        database.build_index(statement)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('limits_by_max')"
    assert database.read(valid) == [(False,)]
    database.transact(lambda tx: tx.run("DELETE FROM limits WHERE key = 'b'"))
    database.build_index(statement)
    assert database.read(valid) == [(True,)]
    database.close()


@pytest.mark.servers
def test_a_contracting_migration_waits_until_older_processes_are_stopped(postgres_database_url: str) -> None:
    database = open_database(postgres_database_url)
    migrate(database)
    future = (*MIGRATIONS, CONTRACTING)
    with (
        psycopg.connect(postgres_database_url, application_name=f"millrace/{CODE}"),
        psycopg.connect(postgres_database_url, application_name="millrace"),
        pytest.raises(errors.Conflict, match=rf"\(schema {CODE}\).*\(schema 1\)") as caught,
    ):
        migrate(database, migrations=future)
    assert caught.value.remedy.startswith("Stop these processes first")
    assert read_schema(database).begun == CODE
    database.close()


@pytest.mark.servers
def test_a_migration_lets_writers_pass_that_a_table_lock_would_hold_up(postgres_database_url: str) -> None:
    database = open_database(postgres_database_url)
    migrate(database)
    with psycopg.connect(postgres_database_url) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM runs")  # its lock on the table lasts until it commits
        migrating = pool.submit(migrate, database, migrations=NEXT)
        time.sleep(2.5)  # by now the migration has given way once
        other = PostgresDatabase(postgres_database_url)
        other.transact(lambda tx: tx.run("DELETE FROM limits"))
        other.close()
        assert not migrating.done()
        reader.commit()
        assert migrating.result(timeout=30).version == CODE + 1
    database.close()


@pytest.mark.servers
def test_a_process_that_was_stopped_in_a_transaction_does_its_work_again(postgres_database_url: str) -> None:
    database = PostgresDatabase(postgres_database_url)
    migrate(database)
    tries: list[int] = []

    def work(tx: Transaction) -> int:
        tx.run("INSERT INTO limits VALUES ('default', 'gpu', 1)")
        if not tries:
            tx.run("SET idle_in_transaction_session_timeout = '100ms'")  # not ten seconds
            time.sleep(0.5)
        tries.append(1)
        return tx.run("UPDATE limits SET max = 2")

    assert database.transact(work) == 1
    assert len(tries) == 2
    database.close()


def _columns(table: str) -> list[str]:
    text = next(s for s in MIGRATIONS[0].statements if s.startswith(f"CREATE TABLE {table} "))
    inner = text.partition("(")[2].partition("PRIMARY KEY (")[0]
    return [part.strip() for part in inner.replace(")", "").split(",") if part.strip()]


def _indexes(database: SharedDatabase) -> set[str]:
    if isinstance(database, PostgresDatabase):
        rows = database.read(
            "SELECT indexname FROM pg_indexes JOIN pg_index ON indexrelid = to_regclass(indexname)"
            " WHERE schemaname = 'public' AND indisvalid"
        )
    else:
        rows = database.read("SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite%'")
    return {row[0] for row in rows if not row[0].endswith("_pkey")}
