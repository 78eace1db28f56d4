"""The grammar of `when`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.contracts.conditions import Condition, parse_condition

METRICS = {"evaluate": {"accuracy": 0.93, "verdict": "passed"}}

literals = st.one_of(st.booleans(), st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.text(max_size=8))
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


@given(st.text(max_size=12))
def test_a_text_parameter_is_compared_as_it_is(text: str) -> None:
    bound = parse_condition("params.name == params.name").with_params({"name": text})
    again = parse_condition(bound.text())
    assert again == bound
    assert again.holds({})


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, float("nan"), float("inf")])
def test_a_parameter_that_cannot_be_compared_is_refused_at_submit(value: object) -> None:
    with pytest.raises(errors.InvalidSpec, match="cannot be compared"):
        parse_condition("params.x == 1").check(params={"x": value}, stages=(), field="when")


@pytest.mark.parametrize("text", ["(" * 5000, "not " * 5000 + "true", " or ".join(["a.b"] * 5000)])
def test_a_condition_that_nobody_can_read_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="more than 200 words"):
        parse_condition(text)
