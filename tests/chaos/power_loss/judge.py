"""Whether what a power loss left keeps every promise that was made before it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from millrace import errors
from millrace.ledger.connect import open_database
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace.testing.history import Violation
from millrace.testing.referenced import check_artifact, check_bucket, check_manifests, manifests_of

Promises = Sequence[Sequence[str]]
LEDGER = "ledger.sqlite"
BUS = "bus/durable.sqlite"


def judge(home: Path, promises: Promises) -> list[Violation]:
    """Look at a factory's home as the first process after the power loss finds it.

    Args:
        home: May lack everything, if nothing was promised.
        promises: Words of each mark, oldest first.
    """
    _reboot(home)
    return [
        *_databases(home),
        *_runs(home, promises),
        *_blobs(home),
        *_stored(home, promises),
        *_messages(home, promises),
        *_notes(home, promises),
    ]


def _reboot(home: Path) -> None:
    """The next boot has another id, so nobody opens the last one's transient queues again."""
    for path in home.glob("bus/transient-*"):
        path.rename(path.with_name("transient-00000000" + path.name.removeprefix("transient-")[8:]))


def _databases(home: Path) -> Iterator[Violation]:
    for name in (LEDGER, BUS):
        if (home / name).exists():
            try:
                with closing(sqlite3.connect(home / name)) as database:
                    said = [row[0] for row in database.execute("PRAGMA integrity_check")]
            except sqlite3.DatabaseError as error:
                said = [str(error)]
            if said != ["ok"]:
                yield Violation("wrong", name, "; ".join(said)[:300])


def _runs(home: Path, promises: Promises) -> Iterator[Violation]:
    """Accepted runs are in the ledger, ended ones have ended, and what the ledger names is in the store."""
    if (home / LEDGER).exists() and _rows(home / LEDGER, "SELECT 1 FROM sqlite_master WHERE name = 'runs'"):
        found = dict(_rows(home / LEDGER, "SELECT run_id, status FROM runs"))
    else:
        found = {}
    for word, *rest in promises:
        if word == "accepted" and rest[0] not in found:
            yield Violation("lost", rest[0], "this run was accepted")
        if word == "ended" and found.get(rest[0]) != "succeeded":
            yield Violation("lost", rest[0], f"this run had succeeded, and now is {found.get(rest[0])}")
    if found:
        settings = Settings(home=home)
        database = open_database(settings.database)
        try:
            # Endpoints' refs are published after the commit: at an instant between, the outbox still has them.
            yield from (
                v for v in check_bucket(database, lambda t: open_store(settings, tenant=t), tenants=_tenants(home))
                if not v.about.startswith("endpoint ")
            )  # fmt: skip
        finally:
            database.close()


def _blobs(home: Path) -> Iterator[Violation]:
    """Whatever has a blob's name holds its bytes, and manifests and refs name only what is there."""
    for tenant in _tenants(home):
        store, digests = open_store(Settings(home=home), tenant=tenant), []
        for blob in store.list_blobs():
            digests.append(blob.digest)
            if hashlib.sha256(_blob(home, tenant, blob.digest).read_bytes()).hexdigest() != blob.digest:
                yield Violation("wrong", blob.digest, "the blob holds other bytes than its name says")
        yield from check_manifests(store, digests)
        yield from _refs(store)


def _refs(store: Store) -> Iterator[Violation]:
    for name in store.list_refs():
        try:
            ref = store.read_ref(name)
        except errors.MillraceError as error:
            yield Violation("wrong", name, error.message)
            continue
        for digest in manifests_of(ref.target if ref else {}):
            yield from check_artifact(store, digest, named_by=f"ref {name}")


def _stored(home: Path, promises: Promises) -> Iterator[Violation]:
    """An artifact whose writing was answered is there whole, and a ref not older than the last one written; unless dropped."""
    newest: dict[tuple[str, str], int] = {}
    dropped = {digest for word, *rest in promises if word == "dropped" for digest in rest[2:]}
    settings = Settings(home=home)
    store_of = cache(lambda tenant: open_store(settings, tenant=tenant))
    for word, *rest in promises:
        if word == "stored" and rest[1] not in dropped:
            yield from check_artifact(store_of(rest[0]), rest[1], named_by="its writer")
        if word == "pointed":
            newest[rest[0], rest[1]] = int(rest[2])
        if word == "dropped":
            del newest[rest[0], rest[1]]
    for (tenant, name), generation in newest.items():
        ref = store_of(tenant).read_ref(name)
        if ref is None or ref.generation < generation:
            yield Violation("lost", name, f"generation {generation} was written, {ref and ref.generation} is there")


def _messages(home: Path, promises: Promises) -> Iterator[Violation]:
    """What the bus has confirmed waits in it, unless a consumer has had it."""
    due = {id for word, *ids in promises if word == "confirmed" for id in ids}
    due -= {id for word, *ids in promises if word == "heard" for id in ids}
    if due:
        bodies = _rows(home / BUS, "SELECT body FROM messages WHERE queue LIKE 'events.%'")
        there = {json.loads(body)["id"] for (body,) in bodies}
        yield from (Violation("lost", id, "the bus had confirmed this event") for id in sorted(due - there))


def _notes(home: Path, promises: Promises) -> Iterator[Violation]:
    """What was committed to the ledger is in it."""
    due = {int(rest[0]) for word, *rest in promises if word == "noted"}
    if due:
        there = {number for (number,) in _rows(home / LEDGER, "SELECT number FROM notes")}
        yield from (Violation("lost", LEDGER, f"row {number} was committed") for number in sorted(due - there))


def _tenants(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "store" / "t").glob("*"))


def _blob(home: Path, tenant: str, digest: str) -> Path:
    return home / "store" / "t" / tenant / "cas" / "sha256" / digest[:2] / digest[2:4] / digest


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as database:
            return database.execute(sql).fetchall()
    except sqlite3.DatabaseError:
        return []
