"""Opening the ledger's database by its URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from millrace import errors
from millrace.ledger.database import SharedDatabase


def open_database(url: str) -> SharedDatabase:
    """Open `sqlite:///path` or `postgresql://...`.

    Raises:
        InvalidInput: The URL has another scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        from millrace.ledger.sqlite import SQLiteDatabase

        return SQLiteDatabase(Path(url.removeprefix("sqlite://")))
    if scheme == "postgresql":
        from millrace.ledger.postgres import PostgresDatabase

        return PostgresDatabase(url)
    raise errors.InvalidInput(
        f"Expected sqlite:///path or postgresql://..., found the scheme {scheme!r}.", field="MILLRACE_DATABASE_URL"
    )
