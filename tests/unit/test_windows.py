"""Windows: how many commands are out, by how long attempts take."""

from __future__ import annotations

import pytest

from millrace_conductor.windows import IN_FLIGHT_PER_SLOT, MAX_PER_SLOT, MAX_SERIES, Paces, Series, Took, places

PLACE = ("functions", "cpu")
LONG, BRIEF, NEW = (("default", "p", name, "work") for name in ("long", "brief", "new"))


def took(series: Series, seconds: float, times: int) -> list[Took]:
    return [Took(PLACE, series, seconds)] * times


@pytest.mark.parametrize(
    ("mean_s", "expected"), [(None, 8), (0.0, 64), (0.001, 64), (0.01, 24), (0.05, 8), (0.2, 5), (1.0, 5), (3600.0, 5)]
)
def test_the_longer_attempts_take_the_fewer_wait(mean_s: float | None, expected: int) -> None:
    assert places(4, mean_s) == expected


@pytest.mark.parametrize("slots", [0, 1, 3, 500])
def test_a_window_is_more_than_the_slots_and_a_small_multiple_of_them(slots: int) -> None:
    for mean_s in (None, 0.0, 1e-9, 0.0123, 0.3, 1e9):
        assert (slots < places(slots, mean_s) <= slots * MAX_PER_SLOT) if slots else places(slots, mean_s) == 0


def test_nobody_knows_at_first() -> None:
    assert Paces().most(PLACE, 4) == Paces().least([NEW], 4) == 4 * IN_FLIGHT_PER_SLOT


def test_tasks_that_may_be_long_shrink_the_window_of_brief_ones() -> None:
    paces = Paces()
    paces.note(took(LONG, 600.0, times=1) + took(BRIEF, 0.0005, times=100))
    assert paces.most(PLACE, 4) == paces.least([BRIEF], 4) == 4 * MAX_PER_SLOT
    assert paces.least([BRIEF, NEW], 4) == 4 * IN_FLIGHT_PER_SLOT
    assert paces.least([BRIEF, NEW, LONG], 4) == 5


def test_one_very_long_attempt_is_soon_forgotten_by_its_class() -> None:
    paces = Paces()
    paces.note(took(LONG, 86_400.0, times=1))
    assert paces.most(PLACE, 4) == 5
    paces.note(took(BRIEF, 0.001, times=80))
    assert paces.most(PLACE, 4) == 4 * MAX_PER_SLOT


def test_only_the_latest_series_are_kept() -> None:
    paces = Paces()
    paces.note(took(BRIEF, 0.001, times=1))
    for number in range(MAX_SERIES):
        paces.note(took(("default", f"p{number}", "s", "work"), 0.001, times=1))
    assert paces.least([BRIEF], 4) == 4 * IN_FLIGHT_PER_SLOT
