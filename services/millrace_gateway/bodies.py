"""Request bodies as the store wants them: blocking, bounded in memory, one file after another."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

import anyio.from_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from typing_extensions import Buffer

from millrace import errors

MAX_FILES = 1_000_000
NextChunk = Callable[[], bytes]
"""Returns the next bytes of a body, b"" at its end. Blocks."""


def chunks_of(request: Request) -> NextChunk:
    """A body's chunks for a worker thread: each call fetches one through the event loop; the sender waits for us."""
    stream = request.stream().__aiter__()

    async def pull() -> bytes:
        try:
            return await anext(stream)
        except StopAsyncIteration:
            return b""
        except ClientDisconnect:
            raise errors.InvalidData("The upload broke off before its end.", remedy="Send it again.") from None

    def next_chunk() -> bytes:
        return anyio.from_thread.run(pull)

    return next_chunk


def open_body(next_chunk: NextChunk) -> BinaryIO:
    """A file-like view of chunks. `read(n)` returns n bytes unless the body ends: S3 parts must be full."""
    return io.BufferedReader(_Chunks(next_chunk), buffer_size=2**18)


class _Chunks(io.RawIOBase):
    def __init__(self, next_chunk: NextChunk) -> None:
        self._next = next_chunk
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer).cast("B")
        if not self._rest:
            self._rest = memoryview(self._next())
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class MultipartFiles:
    """The files of a multipart body in their order. Each must be read before the next; memory holds one chunk."""

    def __init__(self, content_type: str, next_chunk: NextChunk) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise errors.InvalidData("The multipart body has no boundary.", field="Content-Type")
        self._next = next_chunk
        self._header_name, self._header_value = bytearray(), bytearray()
        self._filename = ""
        self._seen: deque[str | bytes | None] = deque()
        """What the parser found and nobody took yet: a file's name, its bytes, None at its end."""
        self._over = False
        self._part_open = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_begin,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._on_header,
                "on_headers_finished": lambda: self._seen.append(self._filename),
                "on_part_data": self._on_data,
                "on_part_end": lambda: self._seen.append(None),
            },
        )

    def __iter__(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield each file's name and bytes. Parts without a file name are passed over.

        Raises:
            InvalidData: The body is not multipart, or ends within a part.
        """
        for _ in range(MAX_FILES):
            name = self._found()
            if name is None:
                return
            assert isinstance(name, str)
            if name:
                yield name, open_body(self._part_chunk)
            while self._part_open:
                self._part_chunk()
        raise errors.InvalidData(f"More than {MAX_FILES} files in one request.", remedy="Send an archive instead.")

    def _part_chunk(self) -> bytes:
        if not self._part_open:
            return b""
        piece = self._found()
        if isinstance(piece, bytes):
            return piece
        self._part_open = False
        return b""

    def _found(self) -> str | bytes | None:
        """The next thing the parser finds; None at the end of a part, and at the end of the body between parts."""
        while not self._seen:
            if self._over:
                if self._part_open:
                    raise errors.InvalidData("The multipart body ends within a file.", remedy="Send it again.")
                return None
            self._feed(self._next())
        piece = self._seen.popleft()
        if isinstance(piece, str):
            self._part_open = True
        return piece

    def _feed(self, chunk: bytes) -> None:
        if not chunk:
            self._over = True
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise errors.InvalidData(
                f"The multipart body is malformed: {error}.", remedy="Send the file alone, as the raw body."
            ) from None

    def _on_begin(self) -> None:
        self._filename = ""
        self._header_name.clear()
        self._header_value.clear()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if end > start:  # an empty piece would read as the file's end
            self._seen.append(data[start:end])

    def _on_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._header_value))[1]
            self._filename = options.get(b"filename", b"").decode("utf-8", errors="replace")
        self._header_name.clear()
        self._header_value.clear()
