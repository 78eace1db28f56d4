"""The three seams with fault points: a Database, a Bus and a Store that fail where they are told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from millrace import errors
from millrace.bus import Bus, DeadLetter
from millrace.contracts.artifacts import Ref
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import Event
from millrace.ledger.database import Database, Row, Transaction
from millrace.store import BlobInfo, Store
from millrace.testing.faults import FaultPoint, Faults

T = TypeVar("T")


def _unavailable(point: FaultPoint) -> errors.Unavailable:
    return errors.Unavailable(f"Fault point {point}: {point.caption}", remedy="A test made it.", point=point.number)


class FaultyDatabase:
    """A Database whose transactions and reads may fail."""

    def __init__(self, database: Database, faults: Faults) -> None:
        self._database = database
        self._faults = faults

    def transact(self, work: Callable[[Transaction], T]) -> T:
        faults = self._faults
        faults.crash_at(FaultPoint.DATABASE_CRASH_BEFORE)
        if faults.strikes(FaultPoint.DATABASE_REFUSED):
            raise _unavailable(FaultPoint.DATABASE_REFUSED)

        def and_fail(tx: Transaction) -> T:
            result = work(tx)
            faults.crash_at(FaultPoint.DATABASE_CRASH_INSIDE)
            if faults.strikes(FaultPoint.DATABASE_ROLLED_BACK):
                raise _unavailable(FaultPoint.DATABASE_ROLLED_BACK)
            return result

        result = self._database.transact(and_fail)
        faults.crash_at(FaultPoint.DATABASE_CRASH_AFTER)
        if faults.strikes(FaultPoint.DATABASE_REPEATED):
            result = self._database.transact(work)
        if faults.strikes(FaultPoint.DATABASE_ANSWER_LOST):
            raise _unavailable(FaultPoint.DATABASE_ANSWER_LOST)
        return result

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if self._faults.strikes(FaultPoint.DATABASE_READ_FAILED):
            raise _unavailable(FaultPoint.DATABASE_READ_FAILED)
        return self._database.read(sql, parameters)

    def close(self) -> None:
        self._database.close()


class FaultyBus:
    """A Bus whose publishing and deliveries may fail; whatever only looks at the broker does not."""

    def __init__(self, bus: Bus, faults: Faults) -> None:
        self._bus = bus
        self._faults = faults

    def send(self, commands: Sequence[ExecuteAttempt], *, events: Sequence[Event] = ()) -> None:
        if commands and not self._faults.strikes(FaultPoint.COMMAND_LOST):
            self._put(commands, self._bus.send)
        if events:
            self.publish(events)

    def publish(self, events: Sequence[Event]) -> None:
        self._put(events, self._bus.publish)

    def signal(self, key: str, payload: Mapping[str, Any]) -> None:
        if not self._faults.strikes(FaultPoint.SIGNAL_LOST):
            self._bus.signal(key, payload)

    def subscribe(
        self,
        service: str,
        patterns: Sequence[str],
        on_batch: Callable[[Sequence[Event]], None],
        *,
        stop: threading.Event,
        max_batch: int = 64,
    ) -> None:
        self._bus.subscribe(service, patterns, self._handled(on_batch), stop=stop, max_batch=max_batch)

    def subscribe_dead(
        self, on_letters: Callable[[Sequence[DeadLetter]], None], *, stop: threading.Event, max_batch: int = 64
    ) -> None:
        self._bus.subscribe_dead(self._handled(on_letters), stop=stop, max_batch=max_batch)

    def listen(
        self, patterns: Sequence[str], on_signal: Callable[[str, dict[str, Any]], None], *, stop: threading.Event
    ) -> None:
        self._bus.listen(patterns, on_signal, stop=stop)

    def declare(self, service: str, patterns: Sequence[str]) -> None:
        self._bus.declare(service, patterns)

    def declare_commands(self, service: str, resource_class: str) -> None:
        self._bus.declare_commands(service, resource_class)

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return self._bus.dead_letters(limit)

    def queue_depth(self, queue: str) -> int:
        return self._bus.queue_depth(queue)

    def check(self) -> None:
        self._bus.check()

    def close(self) -> None:
        self._bus.close()

    def _put(self, messages: Sequence[T], put: Callable[[Sequence[T]], None]) -> None:
        faults = self._faults
        faults.crash_at(FaultPoint.BUS_CRASH_BEFORE)
        if faults.strikes(FaultPoint.BUS_REFUSED):
            raise _unavailable(FaultPoint.BUS_REFUSED)
        if faults.strikes(FaultPoint.BUS_HALF_TAKEN):
            put(messages[: len(messages) // 2])
            raise _unavailable(FaultPoint.BUS_HALF_TAKEN)
        if faults.strikes(FaultPoint.BUS_DUPLICATED):
            messages = [m for message in messages for m in (message, message)]
        if faults.strikes(FaultPoint.BUS_REORDERED):
            messages = messages[::-1]
        if faults.strikes(FaultPoint.BUS_DELAYED):
            faults.later(lambda: put(messages))
        else:
            put(messages)
        faults.crash_at(FaultPoint.BUS_CRASH_AFTER)
        if faults.strikes(FaultPoint.BUS_ANSWER_LOST):
            raise _unavailable(FaultPoint.BUS_ANSWER_LOST)

    def _handled(self, on_batch: Callable[[Sequence[T]], None]) -> Callable[[Sequence[T]], None]:
        def handle(batch: Sequence[T]) -> None:
            self._faults.crash_at(FaultPoint.DELIVERY_CRASH_BEFORE)
            on_batch(batch)
            self._faults.crash_at(FaultPoint.DELIVERY_CRASH_AFTER)
            if self._faults.strikes(FaultPoint.DELIVERY_REPEATED):
                raise _unavailable(FaultPoint.DELIVERY_REPEATED)  # which has the batch handed over again

        return handle


class FaultyStore:
    """A Store whose reads and writes may fail."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.tenant = store.tenant
        self._store = store
        self._faults = faults

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        return self._put(lambda: self._store.put_stream(stream))

    def put_bytes(self, data: bytes) -> str:
        return self._put(lambda: self._store.put_bytes(data))

    def put_file(self, path: Path) -> tuple[str, int]:
        return self._put(lambda: self._store.put_file(path))

    def get_bytes(self, digest: str, *, max_bytes: int = 64 * 2**20) -> bytes:
        self._fail_at(FaultPoint.STORE_GET_FAILED)
        return self._store.get_bytes(digest, max_bytes=max_bytes)

    def open(self, digest: str) -> AbstractContextManager[BinaryIO]:
        self._fail_at(FaultPoint.STORE_GET_FAILED)
        return self._store.open(digest)

    def fetch(self, digest: str, destination: Path) -> None:
        self._fail_at(FaultPoint.STORE_GET_FAILED)
        self._store.fetch(digest, destination)

    def exists(self, digest: str) -> bool:
        return self._store.exists(digest)

    def size(self, digest: str) -> int:
        return self._store.size(digest)

    def read_ref(self, name: str) -> Ref | None:
        self._fail_at(FaultPoint.STORE_REF_UNREAD)
        return self._store.read_ref(name)

    def write_ref(self, name: str, ref: Ref, *, expected: Ref | None) -> bool:
        faults = self._faults
        faults.crash_at(FaultPoint.STORE_CRASH_BEFORE)
        self._fail_at(FaultPoint.STORE_REF_FAILED)
        if faults.strikes(FaultPoint.STORE_REF_LATE):
            faults.later(lambda: self._store.write_ref(name, ref, expected=expected))
            raise _unavailable(FaultPoint.STORE_REF_LATE)
        written = self._store.write_ref(name, ref, expected=expected)
        faults.crash_at(FaultPoint.STORE_CRASH_AFTER)
        self._fail_at(FaultPoint.STORE_REF_ANSWER_LOST)
        return written

    def list_refs(self, prefix: str = "") -> Iterator[str]:
        return self._store.list_refs(prefix)

    def delete_ref(self, name: str) -> None:
        self._store.delete_ref(name)

    def refresh(self, digest: str) -> bool:
        return self._store.refresh(digest)

    def list_blobs(self, *, after: str = "") -> Iterator[BlobInfo]:
        return self._store.list_blobs(after=after)

    def delete_blobs(self, digests: Sequence[str], *, untouched_since: float) -> list[str]:
        return self._store.delete_blobs(digests, untouched_since=untouched_since)

    def clear_leftovers(self, *, untouched_since: float) -> int:
        return self._store.clear_leftovers(untouched_since=untouched_since)

    def clock(self) -> float:
        return self._store.clock()

    def check(self) -> None:
        self._store.check()

    def _put(self, put: Callable[[], T]) -> T:
        self._faults.crash_at(FaultPoint.STORE_CRASH_BEFORE)
        self._fail_at(FaultPoint.STORE_PUT_FAILED)
        stored = put()
        self._faults.crash_at(FaultPoint.STORE_CRASH_AFTER)
        self._fail_at(FaultPoint.STORE_PUT_ANSWER_LOST)
        return stored

    def _fail_at(self, point: FaultPoint) -> None:
        if self._faults.strikes(point):
            raise _unavailable(point)
