"""What two cache keys differ in, as users are told it."""

from __future__ import annotations

import pytest

from millrace.contracts.caching import differences


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"seed": "0"}, {"seed": "1"}, [("seed", "0", "1")]),
        ({"with": "{}"}, {"with.rate": "1"}, [("with.rate", "", "1")]),
        ({"with.rate": "1"}, {"with": "{}"}, [("with.rate", "1", "")]),
        ({"with.a": "{}"}, {"with.a.b": "1", "with.ab": "2"}, [("with.a.b", "", "1"), ("with.ab", "", "2")]),
        ({"with.a": "{}"}, {"with.ab": "2"}, [("with.a", "{}", ""), ("with.ab", "", "2")]),
        ({"plan": ""}, {"plan": "d"}, [("plan", "", "d")]),
    ],
)
def test_an_empty_object_that_got_fields_is_told_by_them_alone(
    before: dict[str, str], now: dict[str, str], told: list[tuple[str, str, str]]
) -> None:
    assert list(differences(before, now)) == told
