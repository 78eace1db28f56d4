"""The grammar of `when`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.contracts.conditions import Condition, parse_condition

METRICS = {"evaluate": {"accuracy": 0.93, "verdict": "passed"}}

literals = st.one_of(
    st.booleans(), st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.from_regex(r"[a-z ]{0,8}", fullmatch=True)
)
values = literals.map(lambda v: Condition("literal", value=v)) | st.sampled_from(
    ["evaluate.accuracy", "evaluate.verdict", "train.loss"]
).map(lambda n: Condition("name", value=n))
comparisons = st.builds(
    lambda op, a, b: Condition(op, (a, b)), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), values, values
)
conditions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds(lambda op, a, b: Condition(op, (a, b)), st.sampled_from(["and", "or"]), inner, inner)
        | inner.map(lambda c: Condition("not", (c,)))
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluate.accuracy >= 0.9", True),
        ("evaluate.accuracy >= 0.9 and evaluate.verdict == 'failed'", False),
        ("evaluate.verdict == 'failed' or not evaluate.accuracy < 0.9", True),
        ("(true or false) and evaluate.accuracy > 9e-1", True),
        ("train.loss < 1", False),
        ("evaluate.verdict < 3", False),
    ],
)
def test_a_condition_is_decided_over_metrics_and_verdicts(text: str, expected: bool) -> None:
    assert parse_condition(text).holds(METRICS) is expected


@given(conditions)
def test_the_canonical_text_parses_to_the_same_condition(condition: Condition) -> None:
    assert parse_condition(condition.text()).text() == condition.text()
    assert parse_condition(condition.text()).holds(METRICS) == condition.holds(METRICS)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_with_a_position(text: str) -> None:
    try:
        parse_condition(text)
    except errors.InvalidSpec as error:
        assert "At character" in error.message  # noqa: PT017 - most texts raise, some do not


def test_parameters_are_put_in_by_value() -> None:
    condition = parse_condition("params.ship == true and evaluate.accuracy > params.floor")
    assert condition.with_params({"ship": True, "floor": 0.5}).holds(METRICS)
    assert condition.stages() == {"evaluate"}
