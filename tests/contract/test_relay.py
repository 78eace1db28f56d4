"""The relay on both databases: what was handed over is sent at once; what could not be sent is read from the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from folder import Folder
from hands import chain, submit
from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.commands import command_queue
from millrace.contracts.events import EndpointDesired
from millrace.ledger import endpoints, queues
from millrace.ledger.queues import Outgoing
from millrace.store import Store
from millrace.testing.faults import FaultPoint, Faults, at
from millrace.testing.faulty import FaultyBus
from millrace_conductor.relay import BATCH, Relay


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Bus]:
    bus = connect(f"embedded://{tmp_path}/bus")
    bus.declare_commands("functions", "cpu")
    yield bus
    bus.close()


def no_store(tenant: str) -> Store:
    raise AssertionError(f"nothing here writes refs, and none of {tenant}")


def relay_of(folder: Folder, bus: Bus) -> Relay:
    relay = Relay(folder.ledger.database, bus, no_store, owner="con")
    relay.step()  # a new conductor looks into the outbox first
    return relay


def rows_of(folder: Folder) -> int:
    return int(folder.ledger.database.read("SELECT COUNT(*) FROM outbox")[0][0])


def queue_depth(bus: Bus) -> int:
    return bus.queue_depth(command_queue("functions", "cpu"))


def test_what_a_transaction_decided_is_one_row_sent_from_memory_and_taken_along_by_the_next(
    folder: Folder, broker: Bus
) -> None:
    relay = relay_of(folder, broker)
    submit(folder.ledger, chain("a"))
    relay.hand_over(folder.take().rows)
    assert rows_of(folder) == 1
    relay.step()
    assert queue_depth(broker) == 1
    assert rows_of(folder) == 1
    sent = relay.take_sent()
    assert len(sent) == 1
    relay.give_back(sent)
    relay.step()  # nothing to send: those that were sent get a transaction of their own
    assert rows_of(folder) == 0


def test_after_a_failure_all_is_read_from_the_outbox_also_what_was_handed_over_since(
    folder: Folder, broker: Bus
) -> None:
    relay = relay_of(folder, FaultyBus(broker, Faults(at(FaultPoint.BUS_REFUSED))))
    submit(folder.ledger, chain("a"))
    relay.hand_over(folder.take().rows)
    with pytest.raises(errors.Unavailable):
        relay.step()
    submit(folder.ledger, chain("a"))
    relay.hand_over(folder.take().rows)
    relay.step()
    assert queue_depth(broker) == 2
    assert rows_of(folder) == 0


def test_rows_of_a_transaction_whose_end_nobody_heard_are_sent_at_the_next_step(folder: Folder, broker: Bus) -> None:
    relay = relay_of(folder, broker)
    submit(folder.ledger, chain("a"))
    folder.take()
    relay.step()
    assert queue_depth(broker) == 0
    relay.doubt()
    relay.step()
    assert queue_depth(broker) == 1


def test_words_that_are_held_back_neither_keep_the_relay_busy_nor_hold_up_others(folder: Folder, broker: Bus) -> None:
    def down(tenant: str) -> Store:
        raise errors.Unavailable(f"the store of {tenant} is away")

    relay = Relay(folder.ledger.database, broker, down, owner="con")
    desired = endpoints.desired_event(EndpointDesired(name="e", generation=1, release=0), tenant="default")
    held = [Outgoing(f"out_0{n:03}", [(kind, desired) for kind in endpoints.DESIRED_KINDS]) for n in range(BATCH)]
    folder.ledger.database.transact(lambda tx: queues.put_outbox(tx, held, owner="con", now=folder.now))
    submit(folder.ledger, chain("a"))
    folder.take()
    assert [relay.step() > 0 for _ in range(2)] == [False, True]
    assert (queue_depth(broker), rows_of(folder)) == (1, BATCH)
