"""Following a run: events once each and in order, whatever the connection does."""

from __future__ import annotations

import pytest

from millrace import errors
from millrace.client.sse import Follower
from millrace.contracts.views import EventView, SignalView

RUN = "run_0"


def event_lines(seq: int, type: str = "stage.started.v1") -> list[str]:
    view = EventView.model_validate(
        {
            "seq": seq,
            "id": f"evt_{seq}",
            "type": type,
            "time": "2026-01-02T03:04:05Z",
            "source": "conductor",
            "data": {},
        }
    )
    return [f"id: {seq}", f"event: {type}", f"data: {view.model_dump_json()}", ""]


SIGNAL = SignalView.model_validate(
    {
        "run_id": RUN,
        "stage": "train",
        "attempt_id": "a",
        "kind": "progress",
        "time": "2026-01-02T03:04:05Z",
        "payload": {},
    }
)
SIGNAL_LINES = ["event: signal", f"data: {SIGNAL.model_dump_json()}", ""]


def read(follower: Follower, lines: list[str]) -> list[EventView | SignalView]:
    return [item for line in lines if (item := follower.read(line)) is not None]


def test_events_come_once_though_the_server_repeats() -> None:
    follower = Follower(RUN, signals=False)
    items = read(follower, [*event_lines(1), *event_lines(2), *event_lines(2), *event_lines(3)])
    assert [item.seq for item in items if isinstance(item, EventView)] == [1, 2, 3]


def test_a_new_connection_asks_for_what_follows_the_last_event() -> None:
    follower = Follower(RUN, signals=False)
    read(follower, [*event_lines(7), "id: 8", "event: stage.started.v1"])  # cut off within an event
    assert follower.call().headers["Last-Event-ID"] == "7"
    assert [type(item) for item in read(follower, event_lines(8))] == [EventView]


def test_a_stream_that_ends_after_the_terminal_event_is_over() -> None:
    follower = Follower(RUN, signals=False)
    read(follower, event_lines(1))
    follower.closed()
    assert not follower.is_over
    read(follower, [*event_lines(2, "run.finished.v1"), *event_lines(3, "attempt.failed.v1")])
    follower.closed()
    assert follower.is_over


def test_a_run_that_was_retried_is_not_over_at_its_first_end() -> None:
    follower = Follower(RUN, signals=False)
    read(follower, [*event_lines(1, "run.finished.v1"), *event_lines(2, "run.retried.v1")])
    follower.closed()
    assert not follower.is_over
    read(follower, event_lines(3, "run.finished.v1"))
    follower.closed()
    assert follower.is_over


def test_no_content_ends_it() -> None:
    follower = Follower(RUN, signals=False, after=9)
    follower.opened(204)
    assert follower.is_over


def test_signals_come_only_if_asked_for_and_do_not_count() -> None:
    wanted, unwanted = Follower(RUN, signals=True), Follower(RUN, signals=False)
    assert read(wanted, [*event_lines(1), *SIGNAL_LINES])[1:] == [SIGNAL]
    assert len(read(unwanted, [*event_lines(1), *SIGNAL_LINES])) == 1
    assert wanted.call().headers["Last-Event-ID"] == "1"


def test_comments_and_retry_fields_are_passed_over() -> None:
    assert read(Follower(RUN, signals=True), [": alive", "", "retry: 1000", ""]) == []


def test_waits_grow_and_start_anew_after_an_event() -> None:
    follower = Follower(RUN, signals=False)
    waits = [follower.lost() for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[-1] == 5.0
    read(follower, event_lines(1))
    assert follower.lost() == waits[0]


def test_a_gateway_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("millrace.client.sse.time.monotonic", lambda: now[0])
    follower = Follower(RUN, signals=False)
    follower.lost(errors.Unavailable("gone"))
    now[0] += 121
    with pytest.raises(errors.Unavailable, match="gone"):
        follower.lost(errors.Unavailable("gone"))
