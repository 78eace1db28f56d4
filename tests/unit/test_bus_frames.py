"""Frames of published messages, against py-amqp's own writer."""

from __future__ import annotations

from types import SimpleNamespace

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from contract.bus_actors import make_command, make_started
from millrace.bus.frames import published
from millrace.bus.messages import Outgoing, encode_event, encode_signal, wire_options
from millrace.bus.task_messages import encode_command

CHANNEL, FRAME_MAX = 3, 131_072


def written_by_amqp(message: Outgoing, *, frame_max: int) -> bytes:
    """What py-amqp writes for the same message, with those properties left out that are empty."""
    written: list[bytes] = []
    write = frame_writer(
        SimpleNamespace(frame_max=frame_max, bytes_sent=0), SimpleNamespace(write=lambda data: written.append(bytes(data)))
    )  # fmt: skip
    options = wire_options(message)
    properties = {
        name: options[name] for name in ("content_type", "content_encoding", "correlation_id", "message_id") if options[name]
    }  # fmt: skip
    content = amqp.Message(
        message.body, application_headers=options["headers"] or None,
        delivery_mode=2 if message.is_persistent else 1, **properties,
    )  # fmt: skip
    arguments = (0, message.exchange.name, message.routing_key, options["mandatory"], False)
    write(1, CHANNEL, spec.Basic.Publish, dumps("Bssbb", arguments), content)
    return b"".join(written)


@pytest.mark.parametrize(
    "message",
    [
        encode_command(make_command("a1", trace={"traceparent": "00-ab-cd-01"})),
        encode_event(make_started("evt_1")),
        encode_event(make_started("évt").model_copy(update={"traceparent": "00-ab-cd-01"})),
        encode_signal("worker.w.heartbeat", {"n": 1}),
    ],
)
def test_a_message_is_framed_as_amqp_does(message: Outgoing) -> None:
    [data] = published([message], channel=CHANNEL, frame_max=FRAME_MAX)
    assert data == written_by_amqp(message, frame_max=FRAME_MAX)


def test_a_body_longer_than_a_frame_takes_several() -> None:
    message = encode_command(make_command("a1", config={"text": "é" * 10_000}))
    [data] = published([message], channel=CHANNEL, frame_max=4096)
    assert data == written_by_amqp(message, frame_max=4096)


def test_a_batch_is_written_in_few_pieces() -> None:
    messages = [encode_event(make_started(f"evt_{number}")) for number in range(1000)]
    pieces = list(published(messages, channel=CHANNEL, frame_max=FRAME_MAX))
    assert 1 < len(pieces) < 10
    assert b"".join(pieces) == b"".join(written_by_amqp(message, frame_max=FRAME_MAX) for message in messages)
