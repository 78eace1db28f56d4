"""Commands, events and dead letters on the wire, and what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu.message import Message

from contract.bus_actors import make_command, make_started
from millrace.bus.messages import Outgoing, decode_dead, decode_event, decode_signal, encode_event, wire_options
from millrace.bus.task_messages import encode_command


def received(body: bytes, **headers: Any) -> Message:
    return Message(body=body, headers=headers, content_type="application/json", delivery_info={"routing_key": "a.b"})


def test_an_event_carries_its_id_type_and_trace() -> None:
    event = make_started("evt_1").model_copy(update={"traceparent": "00-ab-cd-01"})
    outgoing = encode_event(event)
    assert decode_event(received(outgoing.body)) == event
    assert (outgoing.id, outgoing.routing_key, outgoing.headers) == (
        "evt_1",
        event.type,
        {"traceparent": "00-ab-cd-01"},
    )


def test_a_command_is_a_celery_message_with_trace_headers_and_without_its_config_in_them() -> None:
    command = make_command("a1", config={"password": "hunter2"}, trace={"traceparent": "00-ab-cd-01"})
    outgoing = encode_command(command)
    [args, kwargs, _] = json.loads(outgoing.body)
    assert (args, kwargs) == ([command.model_dump(mode="json", exclude_defaults=True)], {})
    assert outgoing.headers["task"] == "millrace.execute"
    assert outgoing.headers["traceparent"] == "00-ab-cd-01"
    assert "hunter2" not in json.dumps(dict(outgoing.headers))


def test_commands_are_mandatory_and_events_are_not() -> None:
    assert wire_options(encode_command(make_command("a1")))["mandatory"]
    assert not wire_options(encode_event(make_started("evt_1")))["mandatory"]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"null", b'{"id": 1}', b"[" * 100_000])
def test_what_is_no_event_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_event(received(body))


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"null", b"[[]]", b"[[{}]]", b'{"a": 1}', b"[" * 100_000])
def test_any_dead_letter_can_be_looked_at(body: bytes) -> None:
    letter = decode_dead(received(body, **{"x-death": [{"queue": "q", "reason": "rejected"}]}))
    assert (letter.queue, letter.reason, letter.command, letter.event) == ("q", "rejected", None, None)


def test_dead_letters_keep_their_command_or_event() -> None:
    command, event = make_command("a1"), make_started("evt_1")
    letters: list[Outgoing] = [encode_command(command), encode_event(event)]
    found = [decode_dead(received(outgoing.body)) for outgoing in letters]
    assert [(letter.command, letter.event) for letter in found] == [(command, None), (None, event)]


def test_a_signal_that_is_no_object_raises_value_error() -> None:
    assert decode_signal(received(b'{"n": 1}')) == ("a.b", {"n": 1})
    with pytest.raises(ValueError, match="object"):
        decode_signal(received(b"[1]"))
