"""A child's output: kept whole up to a size, its newest lines sent on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.runtime import capture
from millrace.runtime.capture import LogCapture
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.artifacts import read_manifest
from millrace.store.connect import open_store


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path / "home"))


def whole(log: LogCapture, store: Store) -> bytes:
    ref = log.store(store)
    assert ref is not None
    return store.get_bytes(read_manifest(store, ref.digest).files[0].digest)


def test_lines_are_put_together_and_the_last_needs_no_end(pipe: tuple[int, int], tmp_path: Path, store: Store) -> None:
    log = LogCapture(pipe[0], tmp_path / "log")
    os.write(pipe[1], b"one\ntw")
    assert log.read()
    os.write(pipe[1], b"o\nthree")
    os.close(pipe[1])
    assert not log.read()
    assert whole(log, store) == b"one\ntwo\nthree\n"


def test_a_structlog_line_is_shown_without_what_the_signal_says_anyway(pipe: tuple[int, int], tmp_path: Path) -> None:
    log = LogCapture(pipe[0], tmp_path / "log")
    os.write(pipe[1], b'{"event":"shard_written","rows":3,"run":"run_1","level":"info","time":"t"}\n')
    os.close(pipe[1])
    log.read()
    assert log.take_live() == {
        "lines": [{"text": "shard_written rows=3", "level": "info", "time": "t"}], "dropped": 0,
    }  # fmt: skip
    assert log.take_live() is None
    log.remove()


def test_of_many_lines_the_newest_are_sent_on_and_the_rest_counted(pipe: tuple[int, int], tmp_path: Path) -> None:
    log = LogCapture(pipe[0], tmp_path / "log")
    os.write(pipe[1], b"".join(b"%d\n" % n for n in range(capture.LIVE_LINES + 5)))
    os.close(pipe[1])
    log.read()
    live = log.take_live()
    assert live is not None
    assert (live["lines"][0]["text"], live["dropped"]) == ("5", 5)
    log.remove()


def test_of_a_log_that_is_too_long_beginning_and_end_are_kept(
    pipe: tuple[int, int], tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "HEAD_BYTES", 100)
    monkeypatch.setattr(capture, "TAIL_BYTES", 100)
    log = LogCapture(pipe[0], tmp_path / "log")
    os.write(pipe[1], b"".join(b"line %03d\n" % n for n in range(200)))
    os.close(pipe[1])
    log.read()
    kept = whole(log, store)
    assert kept.startswith(b"line 000\n")
    assert b"log_shortened" in kept
    assert kept.endswith(b"line 199\n")
    assert len(kept) < 300


def test_a_child_that_says_nothing_has_no_log(pipe: tuple[int, int], tmp_path: Path, store: Store) -> None:
    log = LogCapture(pipe[0], tmp_path / "log")
    os.close(pipe[1])
    log.read()
    assert log.store(store) is None
