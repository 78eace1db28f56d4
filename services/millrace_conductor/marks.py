"""The mark set: digests that are to stay, and why, in a file, so that millions need little memory and a crash keeps them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

_UNSEEN, _LEAF, _SEEN = 0, 1, 2
_BATCH = 500


def digests_in(text: str) -> set[str]:
    """Whatever may be a digest in a text; one that names nothing does no harm."""
    return set(_DIGEST.findall(text))


class Marks:
    """Digests with the source that named each first. Used by one thread at a time.

    Every call is one durable transaction: a mark that a power cut took away would be an artifact lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=EXTRA")  # FULL lets a power loss bring the last journal back
        self._db.execute("PRAGMA cache_size=-8000")
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS marks (digest BLOB PRIMARY KEY, why TEXT NOT NULL, state INTEGER NOT NULL)"
            " WITHOUT ROWID;"
            f"CREATE INDEX IF NOT EXISTS unseen ON marks (digest) WHERE state = {_UNSEEN};"
            "CREATE TABLE IF NOT EXISTS finished (source TEXT PRIMARY KEY) WITHOUT ROWID;"
        )

    def close(self) -> None:
        self._db.close()

    def add(self, digests: Iterable[str], *, why: str) -> None:
        """Mark what may be manifests: each is yet to be looked into."""
        self._write((d, why, _UNSEEN) for d in digests)

    def finish(self, source: str) -> None:
        """Remember that a source was read to its end."""
        self._db.execute("INSERT OR IGNORE INTO finished VALUES (?)", (source,))

    def finished(self) -> set[str]:
        return {str(source) for (source,) in self._db.execute("SELECT source FROM finished")}

    def unseen(self) -> list[tuple[str, str]]:
        """Some (digest, why) that are yet to be looked into; none: all were."""
        rows = self._db.execute(f"SELECT digest, why FROM marks WHERE state = {_UNSEEN} LIMIT {_BATCH}")
        return [(digest.hex(), why) for digest, why in rows]

    def see(self, digest: str, *, why: str, files: Iterable[str] = (), named: Iterable[str] = ()) -> None:
        """Note that a digest was looked into, with a manifest's files and with what else it names."""
        self._write([(digest, why, _SEEN), *((d, why, _LEAF) for d in files), *((d, why, _UNSEEN) for d in named)])

    def why(self, digests: Sequence[str]) -> dict[str, str]:
        """The marked ones of at most some thousand digests, with their sources."""
        places = ",".join("?" for _ in digests)
        found = self._db.execute(
            f"SELECT digest, why FROM marks WHERE digest IN ({places})", [bytes.fromhex(d) for d in digests]
        )
        return {digest.hex(): why for digest, why in found}

    def _write(self, rows: Iterable[tuple[str, str, int]]) -> None:
        # A file of one artifact may be the manifest of another: who calls it a leaf is not always right.
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO marks VALUES (?,?,?) ON CONFLICT (digest) DO UPDATE SET state = excluded.state"
            f" WHERE excluded.state = {_SEEN} OR (state = {_LEAF} AND excluded.state = {_UNSEEN})",
            ((bytes.fromhex(digest), why, state) for digest, why, state in rows),
        )
        self._db.execute("COMMIT")
