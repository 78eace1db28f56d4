"""Commands: queues, batches, what comes back, what dies; over both transports."""

from __future__ import annotations

import pytest
from kombu import Connection, Consumer

from contract.bus_actors import make_command, wait_until
from millrace import errors
from millrace.bus import Bus, topology
from millrace.bus.connect import broker_url


def test_a_batch_goes_to_the_queues_of_its_services_and_classes(bus: Bus) -> None:
    bus.send(
        [
            make_command("a1"),
            make_command("a2", resource_class="gpu"),
            make_command("a3"),
            make_command("a4", service="cleaning"),
        ]
    )
    depths = {name: bus.queue_depth(f"commands.{name}.v1") for name in ("training.cpu", "training.gpu", "cleaning.cpu")}
    assert depths == {"training.cpu": 2, "training.gpu": 1, "cleaning.cpu": 1}


def test_a_declared_command_queue_is_empty_and_may_be_declared_again(bus: Bus) -> None:
    bus.declare_commands("training", "cpu")
    bus.send([make_command("a1")])
    bus.declare_commands("training", "cpu")
    assert bus.queue_depth("commands.training.cpu.v1") == 1


def test_a_queue_that_does_not_exist_is_empty(bus: Bus) -> None:
    assert bus.queue_depth("commands.nothing.cpu.v1") == 0


def test_a_command_that_no_queue_takes_comes_back_as_an_error(bus: Bus, bus_url: str) -> None:
    bus.send([make_command("a1")])
    with Connection(broker_url(bus_url)) as connection:
        connection.default_channel.queue_delete("commands.training.cpu.v1")
    with pytest.raises(errors.Unavailable, match=r"commands\.training\.cpu\.v1: 2 of 3") as caught:
        bus.send([make_command("a2"), make_command("a3", service="cleaning"), make_command("a4")])
    assert caught.value.retryable
    bus.send([make_command("a2")])
    assert bus.queue_depth("commands.training.cpu.v1") == 1


def test_a_rejected_command_is_a_dead_letter_that_can_be_read(bus: Bus, bus_url: str) -> None:
    command = make_command("a1", config={"secret": "no", "text": "é" * 300_000})
    bus.send([command])
    with Connection(broker_url(bus_url)) as connection:
        queue = topology.commands_queue("training", "cpu")
        with Consumer(connection, queues=[queue], on_message=lambda message: message.reject(requeue=False)):
            connection.drain_events(timeout=5)
    wait_until(lambda: bus.queue_depth("dead.v1") == 1)
    [letter] = bus.dead_letters()
    assert letter.command == command
    assert (letter.queue, letter.reason, letter.event) == ("commands.training.cpu.v1", "rejected", None)


def test_a_queue_declared_otherwise_is_a_conflict_that_says_so(bus: Bus, bus_url: str) -> None:
    queue = topology.commands_queue("training", "cpu")
    queue.queue_arguments = {**queue.queue_arguments, "x-delivery-limit": 7}
    with Connection(broker_url(bus_url)) as connection:
        topology.declare(queue, connection.default_channel)
    with pytest.raises(errors.Conflict, match="other arguments"):
        bus.declare_commands("training", "cpu")
