"""Uploads: whatever the chunks, the files are what was sent; what is malformed is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.client.uploads import files_call
from millrace_gateway.bodies import MultipartFiles, NextChunk, open_body

FILES = st.dictionaries(st.sampled_from(["a.csv", "sub dir/b.csv", 'quo"te.csv', "ü.csv"]), st.binary(max_size=300))


def cut(body: bytes, size: int) -> NextChunk:
    """A body's chunks of a size, as `chunks_of` hands them over."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return lambda: pieces.pop(0) if pieces else b""


def encoded(files: dict[str, bytes]) -> tuple[str, bytes]:
    """The SDK's own multipart encoding: content type and body."""
    call = files_call("source", files, {})
    assert callable(call.body)
    return call.headers["Content-Type"], b"".join(call.body())


@given(files=FILES, size=st.integers(1, 400))
def test_a_multipart_body_gives_its_files_however_it_is_cut(files: dict[str, bytes], size: int) -> None:
    content_type, body = encoded(files)
    found = {name: stream.read() for name, stream in MultipartFiles(content_type, cut(body, size))}
    assert found == files


@given(files=FILES, size=st.integers(1, 400))
def test_a_file_that_nobody_reads_is_passed_over(files: dict[str, bytes], size: int) -> None:
    content_type, body = encoded(files)
    assert [name for name, _ in MultipartFiles(content_type, cut(body, size))] == list(files)


@given(body=st.binary(max_size=2000), chunk=st.integers(1, 500), size=st.integers(1, 700))
def test_a_raw_body_reads_as_a_file_in_full_parts(body: bytes, chunk: int, size: int) -> None:
    stream = open_body(cut(body, chunk))
    parts = []
    while part := stream.read(size):
        parts.append(part)
    assert b"".join(parts) == body
    assert all(len(part) == size for part in parts[:-1])


def test_a_body_that_ends_within_a_file_is_refused() -> None:
    content_type, body = encoded({"a.csv": b"x" * 1000})
    with pytest.raises(errors.InvalidData, match="ends within a file"):
        [stream.read() for _, stream in MultipartFiles(content_type, cut(body[:-500], 64))]


def test_a_body_that_is_not_multipart_is_refused() -> None:
    content_type, _ = encoded({"a.csv": b"x"})
    with pytest.raises(errors.InvalidData, match="malformed"):
        list(MultipartFiles(content_type, cut(b"a,b\n1,2\n" * 20, 64)))


def test_multipart_without_a_boundary_is_refused() -> None:
    with pytest.raises(errors.InvalidData, match="no boundary"):
        MultipartFiles("multipart/form-data", cut(b"", 1))
