"""The seam to the database: one code path, transactions and `?` placeholders, over SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

Row = tuple[Any, ...]
T = TypeVar("T")

REPORT = "Run one version of Millrace in all processes; report it if it persists."


class Transaction(Protocol):
    """What code inside a transaction may do. SQL uses `?`; both databases read the same text."""

    lock: str
    """Suffix of a SELECT that locks its rows: ` FOR UPDATE`, or nothing where writers are alone anyway."""

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Row]]:
        """Execute after all before it; return what fetches its rows. Several that are asked first cost one trip together."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]: ...

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute after all before it. Its error may be raised later, at the commit at the latest."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute; return how many rows were written."""

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row of parameters, in one trip; nothing for none."""


class Database(Protocol):
    """A database. Thread-safe; connections are per thread and per process. Every driver's error is translated."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run work in one durable, serialized transaction; run it again after a deadlock or a lost connection."""

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Read outside of any transaction."""

    def close(self) -> None:
        """Close the connections of all threads."""


class SharedDatabase(Database, Protocol):
    """A database that processes of several versions use at once, and one of them migrates."""

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from migrating, for the block; wait for one that does."""

    def build_index(self, statement: str) -> None:
        """Execute a `CREATE INDEX`, unless the index is there whole; on PostgreSQL writers go on meanwhile."""

    def connected_code(self, *, before: int) -> list[str]:
        """Who is connected with code of an older schema version, as far as the database knows; in words."""
