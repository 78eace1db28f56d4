"""Clocks and prefixes as values: which instants are due, and when what lies somewhere has come to rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.contracts.ids import derived_run_id
from millrace.contracts.loading import load_spec
from millrace.contracts.triggers import MAX_BACKLOG, CronTrigger, ObjectsTrigger
from millrace_conductor.triggers import Listing, advance_prefix

NOON = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
PREFIX = ObjectsTrigger(new_objects="s3://b/p/", param="data", quiet_s=60)
NOTHING = Listing([], "", is_marked=True)


def listing(*etags: str, is_marked: bool = True) -> Listing:
    rows = [{"url": f"s3://b/p/{e}", "path": e, "etag": e, "size_bytes": 1} for e in etags]
    return Listing(rows, "-".join(etags), is_marked)


def spec_with(trigger: dict[str, object]) -> None:
    load_spec({"name": "t", "params": {"data": "dataset"}, "stages": {"n": {"kind": "noop"}}, "triggers": [trigger]})


@pytest.mark.parametrize(
    ("backlog", "fired"),
    [("latest", [180]), ("all", [0, 60, 120, 180]), ("skip", [])],
)
def test_a_backlog_collapses_by_policy(backlog: str, fired: list[int]) -> None:
    trigger = CronTrigger.model_validate({"cron": "* * * * *", "backlog": backlog})
    due = trigger.due(NOON, NOON + timedelta(seconds=200))
    assert due == [NOON + timedelta(seconds=s) for s in fired]


@pytest.mark.parametrize("backlog", ["latest", "all", "skip"])
def test_an_instant_that_has_just_come_fires_once_by_every_policy(backlog: str) -> None:
    trigger = CronTrigger.model_validate({"cron": "* * * * *", "backlog": backlog})
    assert trigger.due(NOON, NOON + timedelta(seconds=5)) == [NOON]
    assert trigger.due(NOON, NOON - timedelta(seconds=5)) == []


def test_a_long_absence_starts_no_flood() -> None:
    trigger = CronTrigger(cron="* * * * * *", backlog="all")
    assert len(trigger.due(NOON, NOON + timedelta(hours=2))) == MAX_BACKLOG


def test_an_hour_that_summer_time_skips_or_repeats_fires_once() -> None:
    nightly = CronTrigger(cron="30 2 * * *", timezone="Europe/Zurich")
    days = [i.date() for i in islice(nightly.after(NOON), 3)]
    assert days == sorted(set(days))
    autumn = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    assert [i.date().day for i in islice(nightly.after(autumn), 2)] == [25, 26]


@given(st.integers(0, 10_000), st.integers(1, 5_000))
def test_however_often_one_looks_each_instant_is_due_once(start: int, step: int) -> None:
    trigger = CronTrigger(cron="*/5 * * * *", backlog="all")
    begin = NOON + timedelta(seconds=start)
    scheduled, fired, now = trigger.next_after(begin), [], begin
    for _ in range(10):
        now += timedelta(seconds=step)
        assert scheduled is not None
        due = trigger.due(scheduled, now)
        fired += due
        scheduled = trigger.next_after(max(now, scheduled)) if due else scheduled
    assert fired == list(islice(trigger.after(begin), len(fired)))
    assert not fired or now - fired[-1] <= timedelta(minutes=5)


def test_a_prefix_fires_once_after_a_quiet_time() -> None:
    state, is_due = advance_prefix(PREFIX, {}, listing("a"), 0)
    assert not is_due
    state, is_due = advance_prefix(PREFIX, state, listing("a", "b"), 50)
    assert not is_due
    state, is_due = advance_prefix(PREFIX, state, listing("a", "b"), 100)
    assert not is_due, "it changed 50 seconds ago"
    state, is_due = advance_prefix(PREFIX, state, listing("a", "b"), 111)
    assert is_due
    assert not advance_prefix(PREFIX, state, listing("a", "b"), 1000)[1]
    state, _ = advance_prefix(PREFIX, state, listing("a", "c"), 1001)
    assert advance_prefix(PREFIX, state, listing("a", "c"), 1062)[1]


def test_an_empty_prefix_fires_nothing() -> None:
    state, _ = advance_prefix(PREFIX, {}, NOTHING, 0)
    assert not advance_prefix(PREFIX, state, NOTHING, 1000)[1]


def test_a_marker_says_that_an_upload_is_complete() -> None:
    marked = PREFIX.model_copy(update={"marker": "_SUCCESS"})
    state, is_due = advance_prefix(marked, {}, listing("a", is_marked=False), 0)
    assert not is_due
    assert not advance_prefix(marked, state, listing("a", is_marked=False), 1000)[1]
    assert advance_prefix(marked, state, listing("a"), 1001)[1]


def test_a_firings_run_id_is_the_same_again_and_sorts_by_its_instant() -> None:
    first, again, later = (derived_run_id(at, "trg", str(at)) for at in (1e9, 1e9, 1e9 + 1))
    assert first == again < later
    assert len(first) == len("run_") + 26


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"cron": "61 * * * *"}, "triggers.0.cron: Expected a cron expression"),
        ({"cron": "0 0 30 2 *"}, "triggers.0.cron: Expected a cron expression"),
        ({"cron": "* * * * *", "timezone": "Mars/Base"}, "triggers.0.timezone: Expected a time zone"),
        ({"corn": "* * * * *"}, "triggers.0: Expected `cron: EXPRESSION` or `new_objects"),
        ({"new_objects": "/local/path", "param": "data"}, "triggers.0.new_objects"),
        ({"new_objects": "s3://b/p/"}, "triggers.0.param: This field is required"),
    ],
)
def test_a_wrong_trigger_is_refused_in_words(trigger: dict[str, object], words: str) -> None:
    with pytest.raises(errors.InvalidSpec) as refused:
        spec_with(trigger)
    assert str(refused.value).startswith(words)
