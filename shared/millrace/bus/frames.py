"""AMQP 0-9-1 frames of published messages, so that a batch is one write: py-amqp polls and writes for each message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import pack

from amqp.serialization import dumps

from millrace.bus.messages import CONTENT_TYPE, ENCODING, Outgoing

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC, _PUBLISH = 60, 40
_FRAME_END = b"\xce"
_ENVELOPE_BYTES = 8
"""Of a frame, around its payload."""

PIECE_BYTES = 131_072
"""Written at once: between two pieces the broker's answers can be read, so that neither side waits for the other."""

_CONTENT_TYPE, _ENCODING_FLAG, _HEADERS, _MODE, _CORRELATION_ID, _MESSAGE_ID = (1 << n for n in (15, 14, 13, 12, 10, 7))
"""Flags of the properties that are used. Their values follow in this order."""

_PERSISTENT, _TRANSIENT = b"\x02", b"\x01"


def published(messages: Iterable[Outgoing], *, channel: int, frame_max: int) -> Iterator[bytes]:
    """Yield what publishes these messages on a channel, in pieces to be written whole.

    Args:
        messages: Their names and ids are at most 255 bytes of UTF-8 each.
        channel: Its number.
        frame_max: The connection's longest frame, in bytes.
    """
    waiting: list[bytes] = []
    num_bytes = 0
    for message in messages:
        data = _published(message, channel=channel, max_payload=frame_max - _ENVELOPE_BYTES)
        waiting.append(data)
        num_bytes += len(data)
        if num_bytes >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, num_bytes = [], 0
    if waiting:
        yield b"".join(waiting)


def _published(message: Outgoing, *, channel: int, max_payload: int) -> bytes:
    body, is_mandatory = message.body, message.queue is not None
    address = _short(message.exchange.name) + _short(message.routing_key)
    method = pack(">HHH", _BASIC, _PUBLISH, 0) + address + bytes([is_mandatory])
    header = pack(">HHQ", _BASIC, 0, len(body)) + _properties(message)
    frames = [_frame(_METHOD, channel, method), _frame(_HEADER, channel, header)]
    frames += [_frame(_BODY, channel, body[start : start + max_payload]) for start in range(0, len(body), max_payload)]
    return b"".join(frames)


def _properties(message: Outgoing) -> bytes:
    flags = _CONTENT_TYPE | _ENCODING_FLAG | _MODE
    values = [_short(CONTENT_TYPE), _short(ENCODING)]
    if message.headers:
        flags |= _HEADERS
        values.append(dumps("F", [dict(message.headers)]))
    values.append(_PERSISTENT if message.is_persistent else _TRANSIENT)
    if message.correlation_id:
        flags |= _CORRELATION_ID
        values.append(_short(message.correlation_id))
    if message.id:
        flags |= _MESSAGE_ID
        values.append(_short(message.id))
    return pack(">H", flags) + b"".join(values)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + _FRAME_END


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data
