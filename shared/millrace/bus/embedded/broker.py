"""The broker that every process carries in itself: two SQLite files, their operations, and the bells of consumers.

Durable queues are in one file, where a persistent publish waits for the disk; private and transient queues (signals)
and the list of consumers are in another, which never does. The second file's name holds the machine's boot: a power
loss may tear a file that is never synced, so nobody opens it again after one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from millrace.bus.embedded import deliveries, owners, topology
from millrace.bus.embedded.database import Database
from millrace.bus.embedded.deliveries import Delivery, Outgoing
from millrace.bus.embedded.routing import EXCHANGE_TYPES
from millrace.folders import make_folder

REAP_S = 1.0
"""How often somebody looks for the dead: a killed consumer's messages are back within this and the fallback poll."""


class Broker:
    """One connection's way to the files. Thread-safe; never used across a fork."""

    def __init__(self, directory: Path) -> None:
        make_folder(directory, mode=0o700)
        self.owners = directory / "owners"
        self.owners.mkdir(exist_ok=True)
        self._reaped = directory / "reaped"
        self._reaped.touch()
        self._lasting = Database(directory / "durable.sqlite", is_lasting=True)
        transient = f"transient-{_boot()}"
        for stale in directory.glob("transient-*"):
            if not stale.name.startswith(transient):
                stale.unlink(missing_ok=True)
        self._transient = Database(directory / f"{transient}.sqlite", is_lasting=False)
        self._types: dict[str, str] = {}
        self._homes: dict[str, Database] = {}

    # --- topology -----------------------------------------------------------------------------------------------------

    def declare_exchange(self, name: str, exchange_type: str, *, durable: bool) -> None:
        if exchange_type not in EXCHANGE_TYPES:
            raise topology.not_found("Exchange", f"type {exchange_type}")
        if self._exchange_type(name) is None:
            home = self._lasting if durable else self._transient
            with home.writing(durable=True) as db:
                db.execute("INSERT OR IGNORE INTO exchanges (name, type) VALUES (?, ?)", (name, exchange_type))

    def declare_queue(self, queue: topology.Queue, *, durable: bool) -> None:
        found = self.find_queue(queue.name)
        if found is None:
            home = self._lasting if durable and not queue.owner and not queue.auto_delete else self._transient
            with home.writing(durable=True) as db:
                topology.add_queue(db, queue)
                found = topology.find_queue(db, queue.name)
        topology.check_equal(found or queue, queue)

    def find_queue(self, name: str) -> topology.Queue | None:
        for home in (self._lasting, self._transient):
            with home.reading() as db:
                found = topology.find_queue(db, name)
            if found is not None:
                self._homes[name] = home
                return found
        self._homes.pop(name, None)
        return None

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        if self._exchange_type(exchange) is None:
            raise topology.not_found("Exchange", exchange)
        home, row = self._home(queue), (exchange, routing_key, queue)
        with home.reading() as db:
            if db.execute(
                "SELECT 1 FROM bindings WHERE exchange = ? AND routing_key = ? AND queue = ?", row
            ).fetchone():
                return
        with home.writing(durable=True) as db:
            db.execute("INSERT OR IGNORE INTO bindings (exchange, routing_key, queue) VALUES (?, ?, ?)", row)

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self._home(queue).writing(durable=True) as db:
            db.execute(
                "DELETE FROM bindings WHERE exchange = ? AND routing_key = ? AND queue = ?",
                (exchange, routing_key, queue),
            )

    def delete_queue(self, name: str) -> None:
        with self._home(name).writing(durable=True) as db:
            topology.remove_queues(db, [name])

    def size(self, queue: str) -> int:
        """Ready messages; those delivered and not yet acknowledged are not counted."""
        with self._home(queue).reading() as db:
            return int(
                db.execute("SELECT count(*) FROM messages WHERE queue = ? AND owner = ''", (queue,)).fetchone()[0]
            )

    def purge(self, queue: str) -> int:
        with self._home(queue).writing() as db:
            return db.execute("DELETE FROM messages WHERE queue = ? AND owner = ''", (queue,)).rowcount

    # --- messages -----------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Put messages into all queues they reach, in one transaction a file; return those that reach none.

        What is persistent and goes to a durable queue is on the disk when this returns.
        """
        reached: set[int] = set()
        queues: set[str] = set()
        for home in (self._lasting, self._transient):
            indices, names = self._put(home, messages)
            reached |= indices
            queues |= names
        self._ring(queues)
        return [m for i, m in enumerate(messages) if i not in reached]

    def claim(self, queue: str, *, owner: str, limit: int, forget: bool) -> list[Delivery]:
        home = self._home(queue)
        with home.reading() as db:  # so that an idle look takes no lock
            if not deliveries.has_ready(db, queue):
                return []
        with home.writing() as db:
            return deliveries.claim(db, queue, owner=owner, limit=limit, forget=forget)

    def acknowledge(self, queue: str, ids: Iterable[int], *, owner: str) -> None:
        with self._home(queue).writing() as db:
            deliveries.acknowledge(db, ids, owner=owner)

    def release(self, queue: str, ids: Sequence[int], *, owner: str, delivered: bool = True) -> None:
        with self._home(queue).writing() as db:
            touched = deliveries.release(db, ids, owner=owner, delivered=delivered)
        self._ring(touched)

    def reject(self, queue: str, ids: Sequence[int], *, owner: str) -> None:
        with self._home(queue).writing(durable=True) as db:
            touched = deliveries.reject(db, ids, owner=owner)
        self._ring(touched)

    # --- consumers ----------------------------------------------------------------------------------------------------

    def add_consumer(self, queue: str, *, owner: str, tag: str) -> None:
        self._home(queue)
        with self._transient.writing() as db:
            db.execute("INSERT OR IGNORE INTO consumers (queue, owner, tag) VALUES (?, ?, ?)", (queue, owner, tag))

    def remove_consumer(self, queue: str, *, owner: str, tag: str) -> None:
        with self._transient.writing() as db:
            db.execute("DELETE FROM consumers WHERE queue = ? AND owner = ? AND tag = ?", (queue, owner, tag))
            topology.remove_idle(db, [queue])

    def num_consumers(self, queue: str) -> int:
        with self._transient.reading() as db:
            return int(db.execute("SELECT count(*) FROM consumers WHERE queue = ?", (queue,)).fetchone()[0])

    def reap(self) -> None:
        """Release what the dead own. Cheap to call often: all processes together look once in REAP_S."""
        now = time.time()
        with contextlib.suppress(OSError):
            if 0 <= now - self._reaped.stat().st_mtime < REAP_S:
                return
            os.utime(self._reaped, (now, now))
        owners.reap(self.owners, self.bury)
        for owner in self._owners_in_files():
            if not owners.is_known(self.owners, owner):
                self.bury(owner)

    def bury(self, owner: str) -> None:
        """Give back an owner's messages, and remove its private queues and its consumers."""
        touched: set[str] = set()
        for home in (self._lasting, self._transient):
            with home.reading() as db:
                ids = [r[0] for r in db.execute("SELECT id FROM messages WHERE owner = ? AND owner != ''", (owner,))]
            if ids:
                with home.writing() as db:
                    touched |= deliveries.release(db, ids, owner=owner, delivered=True)
        with self._transient.writing() as db:
            consumed = [r[0] for r in db.execute("SELECT DISTINCT queue FROM consumers WHERE owner = ?", (owner,))]
            db.execute("DELETE FROM consumers WHERE owner = ?", (owner,))
            topology.remove_queues(db, [r[0] for r in db.execute("SELECT name FROM queues WHERE owner = ?", (owner,))])
            topology.remove_idle(db, consumed)
        self._ring(touched)

    def close(self) -> None:
        self._lasting.close()
        self._transient.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _put(self, home: Database, messages: Sequence[Outgoing]) -> tuple[set[int], set[str]]:
        reached: set[int] = set()
        queues: set[str] = set()
        addresses = {(m.exchange, m.routing_key): self._require_type(m.exchange) for m in messages}
        with home.reading() as db:  # so that what goes to the other file costs no transaction here
            if not any(topology.route(db, exchange, kind, key) for (exchange, key), kind in addresses.items()):
                return reached, queues
        with home.writing(durable=any(m.persistent for m in messages)) as db:
            routes = {
                (exchange, key): topology.route(db, exchange, kind, key) for (exchange, key), kind in addresses.items()
            }
            for index, message in enumerate(messages):
                for queue, arguments in routes[message.exchange, message.routing_key].items():
                    deliveries.put(db, queue, arguments, envelope=message.envelope, body=message.body)
                    reached.add(index)
                    queues.add(queue)
        return reached, queues

    def _owners_in_files(self) -> set[str]:
        with self._lasting.reading() as db:
            found = {r[0] for r in db.execute("SELECT DISTINCT owner FROM messages WHERE owner != ''")}
        with self._transient.reading() as db:
            found |= {r[0] for r in db.execute("SELECT DISTINCT owner FROM messages WHERE owner != ''")}
            found |= {r[0] for r in db.execute("SELECT owner FROM consumers UNION SELECT owner FROM queues")}
        return found - {""}

    def _exchange_type(self, name: str) -> str | None:
        if name not in self._types:
            for home in (self._lasting, self._transient):
                with home.reading() as db:
                    row = db.execute("SELECT type FROM exchanges WHERE name = ?", (name,)).fetchone()
                if row:
                    self._types[name] = row[0]
        return self._types.get(name)

    def _require_type(self, exchange: str) -> str:
        found = self._exchange_type(exchange) if exchange else "direct"
        if found is None:
            raise topology.not_found("Exchange", exchange)
        return found

    def _home(self, queue: str) -> Database:
        if queue not in self._homes and self.find_queue(queue) is None:
            raise topology.not_found("Queue", queue)
        return self._homes[queue]

    def _ring(self, queues: Iterable[str]) -> None:
        names = list(queues)
        if not names:
            return
        marks = ", ".join("?" * len(names))
        with self._transient.reading() as db:
            rows = db.execute(f"SELECT DISTINCT owner FROM consumers WHERE queue IN ({marks})", names).fetchall()
        for (owner,) in rows:
            owners.ring(self.owners, owner)


def _boot() -> str:
    """A name for this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return str(int(psutil.boot_time()))
