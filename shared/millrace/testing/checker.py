"""The history checker: reads only the journal, the bucket and the broker, and says which promises were not kept.

Run it where `MILLRACE_*` says where they are: `python -m millrace.testing.checker`. Work should have ended before.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.bus.topology import events_queue_name
from millrace.contracts.commands import command_queue
from millrace.ledger.connect import open_database
from millrace.ledger.database import Database
from millrace.settings import Settings, load_settings
from millrace.store.connect import open_store
from millrace.testing.history import Violation, check_journal
from millrace.testing.referenced import StoreOf, check_bucket

LOOK_EVERY_S = 0.5


def check(settings: Settings, *, accepted: Iterable[str] = (), patience_s: float = 0.0) -> list[Violation]:
    """Judge a factory at rest.

    Args:
        settings: Where its journal, bucket and broker are.
        accepted: Ids of the runs whose submission was answered.
        patience_s: How long what has not come to rest may still take.

    Returns:
        What is wrong; empty if every promise was kept.

    Raises:
        Unavailable: Journal, bucket or broker do not answer.
    """
    ids = tuple(accepted)
    with contextlib.ExitStack() as stack:
        database = open_database(settings.database)
        stack.callback(database.close)
        bus = connect(settings.broker)
        stack.callback(bus.close)
        deadline = time.monotonic() + patience_s
        while True:
            found = check_all(database, bus, lambda tenant: open_store(settings, tenant=tenant), accepted=ids)
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(LOOK_EVERY_S)


def check_all(database: Database, bus: Bus, store_of: StoreOf, *, accepted: Iterable[str] = ()) -> list[Violation]:
    """Judge journal, bucket and broker, given as seams; so the simulated ones are judged as the real ones are."""
    tenants = [str(tenant) for (tenant,) in database.read("SELECT DISTINCT tenant FROM runs")]
    return [
        *check_journal(database, accepted=accepted),
        *check_bucket(database, store_of, tenants=tenants),
        *check_broker(database, bus),
    ]


def check_broker(database: Database, bus: Bus) -> Iterator[Violation]:
    """At rest every queue is empty, that of dead letters, which conductors consume, among them."""
    classes = database.read("SELECT DISTINCT service, resource_class FROM tasks")
    for queue in (events_queue_name("conductor"), *(command_queue(str(s), str(c)) for s, c in classes)):
        if depth := bus.queue_depth(queue):
            yield Violation("stuck", queue, f"{depth} messages wait in it")
    for letter in bus.dead_letters():
        yield Violation("lost", letter.queue, f"a dead letter ({letter.reason}) that nobody took: {letter.body[:300]}")


def main() -> int:
    """Print what is wrong, a line each; the exit code says whether anything is."""
    try:
        found = check(load_settings())
    except errors.MillraceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for violation in found:
        print(violation)
    print("nothing is wrong" if not found else f"{len(found)} promises were not kept", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
