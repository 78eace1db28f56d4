"""Topic patterns of the embedded transport, against AMQP's definition."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.bus.embedded.routing import matches

WORDS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("run.*.v1", "run.started.v1", True),
        ("run.*.v1", "run.started.now.v1", False),
        ("run.#", "run", True),
        ("run.#", "run.started.v1", True),
        ("run.#", "runs", False),
        ("#.v1", "v1", True),
        ("#", "", True),
        ("*", "a.b", False),
        ("a.#.b", "a.b", True),
        ("a+", "aa", False),
    ],
)
def test_a_topic_pattern_matches_by_words(pattern: str, key: str, is_match: bool) -> None:
    assert matches("topic", pattern, key) is is_match


@given(PATTERNS, WORDS)
def test_patterns_agree_with_the_definition_by_regular_expression(pattern: list[str], words: list[str]) -> None:
    # Each word with a dot before it, so that `#` is any number of them and takes its dots along.
    parts = {"#": r"(?:\.[^.]*)*", "*": r"\.[^.]*"}
    expected = re.fullmatch("".join(parts.get(p, rf"\.{p}") for p in pattern), "." + ".".join(words))
    assert matches("topic", ".".join(pattern), ".".join(words)) is (expected is not None)


def test_direct_and_fanout_exchanges_read_no_wildcards() -> None:
    assert not matches("direct", "#", "a")
    assert matches("direct", "a.b", "a.b")
    assert matches("fanout", "a", "b")
